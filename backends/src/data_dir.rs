//! The data directory of the embedded backends: its layout, and the lock that keeps a second process out.
