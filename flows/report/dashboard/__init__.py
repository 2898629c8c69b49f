"""The dashboard of a run: report.html, one file that opens from disk, and a view of every job that is loaded on demand."""
