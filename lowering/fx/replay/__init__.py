"""Trace repeated layers once: after two calls whose graphs agree, further calls are one op each, replaced by copies afterwards.

likeness        compares modules by structure
occurrence      records one call of a module while it is traced
agreement       compares the graphs of two calls
marker          the ops that stand for a call in the traced graph
tracing         decides during a trace which calls are traced
expansion       replaces the ops by copies of the traced graph
"""
