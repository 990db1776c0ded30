//! Empty environment variables count as unset.

use std::env;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

/// Starts the program over without empty variables, if there are any; comes back if there are none, or if it cannot.
///
/// Not for our own settings, where `config` passes them over, but for libraries, which read variables of their own:
/// `PGSSLROOTCERT=""` is a file without a name, `NO_COLOR=""` switches some colours off. To remove a variable from a
/// running process is `unsafe`; the process, its id, its signals and its files stay the same this way.
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
    // Comes back only with an error.
    let _ = command.args(arguments).exec();
}
