"""Ops of a team, in C++ and in Python, and models that call them: see README.md."""
