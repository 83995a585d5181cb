"""What picture files hold besides 8-bit RGB: containers, colour signalling, deep samples, transparency, EXIF."""
