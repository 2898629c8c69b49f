"""The child process of a job, the server that it is forked from, and the watcher of its time and memory."""
