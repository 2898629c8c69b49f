"""The exit statuses of `shapeline`."""

OK = 0  # everything is as expected
UNEXPECTED = 1  # something is not as expected: a job, a comparison, the machine
USAGE_ERROR = 2  # wrong usage or configuration: nothing was started
INTERRUPTED = 130  # interrupted by Ctrl-C, as shells report it
