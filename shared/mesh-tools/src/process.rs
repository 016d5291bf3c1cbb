//! Processes: scripts and agent command lines.
