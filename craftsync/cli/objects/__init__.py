"""The commands for objects: what is there (`listing`), their content (`content`), copies and removal (`copying`)."""
