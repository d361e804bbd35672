"""The formats of photo files: headers, damage, colour spaces."""
