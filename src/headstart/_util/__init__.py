"""Small helpers that know nothing of models or data: hashing, seeds, files, devices, progress."""
