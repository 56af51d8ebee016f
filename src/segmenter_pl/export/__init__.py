"""Models for use elsewhere: graphs, and folders that anybody may load."""
