"""Small tools that know nothing of sounds: parameters, labels, messages, files."""
