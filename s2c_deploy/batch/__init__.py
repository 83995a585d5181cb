"""Many pictures: folders and object storage, by processes of one machine or by a Ray cluster."""
