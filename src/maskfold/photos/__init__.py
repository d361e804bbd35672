"""Read JPEG and PNG files: headers, damage, pixels and colour profiles."""
