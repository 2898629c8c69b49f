"""The dashboard of a run: report.html, one file that opens from disk, and beside every job the view of it that is loaded on demand."""
