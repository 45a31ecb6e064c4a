"""A server of archives, as Zenodo is one."""

import hashlib
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer


class Server:
    """Serves archives as Zenodo does, and remembers what was asked for."""

    def __init__(self, folder, registry):
        folder.mkdir()
        self.folder = folder
        self.registry = registry
        self.requests = requests = []

        class Handler(SimpleHTTPRequestHandler):
            def __init__(self, *args):
                super().__init__(*args, directory=folder)

            def do_GET(self):
                requests.append(self.path)
                super().do_GET()

            def log_message(self, *args):
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        # It looks every so many seconds whether it is to stop.
        threading.Thread(
            target=self.http.serve_forever, args=(0.01,), daemon=True
        ).start()

    def path(self, record, name):
        return self.folder / str(record) / name

    def publish(self, unknown=()):
        """Register all files, with their md5 sums of now; of some it is not known."""
        host = f"http://127.0.0.1:{self.http.server_port}"
        lines = []
        for path in sorted(self.folder.glob("*/*")):
            md5 = "-" if path.name in unknown else f"md5:{md5_of(path)}"
            lines += [f"{path.name} {md5} {host}/{path.parent.name}/{path.name}\n"]
        self.registry.write_text("".join(lines))

    def stop(self):
        self.http.shutdown()
        self.http.server_close()


def md5_of(path):
    return hashlib.md5(path.read_bytes()).hexdigest()
