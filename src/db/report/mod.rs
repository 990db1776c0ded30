//! The queries of the commands that only look, one module per command.

pub mod demo;
pub mod plan;
pub mod status;
pub mod why;
