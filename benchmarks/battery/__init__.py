"""The sections of the GPU battery (gpu.py): each measures one thing with the functions that the commands use."""
