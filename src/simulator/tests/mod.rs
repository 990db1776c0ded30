//! Tests of the simulator's modules together; each module's own tests are in its file.

mod content;
mod control;
mod faults;
mod http;
mod life;
mod scene;
