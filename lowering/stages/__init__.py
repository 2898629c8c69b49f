"""One file a stage: a frozen dataclass whose fields are its options, and which takes a program one level down."""
