"""The encoder's search for fewer bits.  Whoever decodes sees no difference: the streams are ordinary ones."""
