//! The stand-in as its clients see it.
