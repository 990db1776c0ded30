//! Empty environment variables count as unset.

use std::env;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

/// Restarts the program without empty variables. Returns if there are none, or if the restart fails.
///
/// Our settings ignore empty variables already (`config`), but libraries read their own: `PGSSLROOTCERT=""` is a file
/// without a name, `NO_COLOR=""` switches some colours off. Removing a variable from a running process is `unsafe`. The
/// process, its id, signals and files stay the same.
pub fn leave_out_empty_variables() {
    let empty: Vec<_> = env::vars_os().filter(|(_, value)| value.is_empty()).map(|(name, _)| name).collect();
    if empty.is_empty() {
        return;
    }
    let Ok(program) = env::current_exe() else { return };
    let (mut command, mut arguments) = (Command::new(program), env::args_os());
    if let Some(name) = arguments.next() {
        command.arg0(name);
    }
    for name in empty {
        command.env_remove(name);
    }
    // Returns only on an error.
    let _ = command.args(arguments).exec();
}
