"""Small tools that are not about sound: parameters, labels, messages, files."""
