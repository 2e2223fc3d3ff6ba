//! Priority of the threads that clients seldom wait for.

use rustix::process::{getpriority_process, setpriority_process};

/// Has the calling thread, and those it starts from now on, give way to threads that each message waits for when there is more
/// to do than cores: 10 nicer than it was, so that it gets about a tenth of a core that another thread wants all of.
///
/// Without it a burst of rows holds back a thread with a message to acknowledge by the scheduler's time slice, some 3 ms.
///
/// Errors: none; a system that refuses is left as it is.
pub fn give_way() {
    // Linux counts niceness by thread: that of the others stays.
    let lowered = getpriority_process(None).and_then(|nice| setpriority_process(None, nice + NICER));
    if let Err(error) = lowered {
        tracing::debug!(%error, "the priority of a background thread could not be lowered");
    }
}

/// Added to the niceness; the system ends it at 19.
const NICER: i32 = 10;

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn a_thread_and_its_own_give_way_and_others_do_not() {
        let nice = || getpriority_process(None).expect("a thread knows its niceness");
        let before = nice();
        let below = thread::spawn(move || {
            give_way();
            (nice(), thread::spawn(nice).join().expect("it only reads"))
        });
        let below = below.join().expect("it only reads");
        let expected = (before + NICER).min(19);
        assert_eq!((below, nice()), ((expected, expected), before));
    }
}
