//! What the simulator's modules do together; each module's own tests are in its file.

mod content;
mod control;
mod faults;
mod http;
mod life;
mod scene;
