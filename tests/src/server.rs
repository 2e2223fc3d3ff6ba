//! A `tidegate` process under test: started on free ports, watched, and ended by pid.

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, kill_process};

pub use rustix::process::Signal;

/// Which reactor the server is told to use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Engine {
    /// io_uring.
    Uring,
    /// epoll.
    Poll,
}

impl Engine {
    /// Returns the value of `--engine`.
    pub const fn flag(self) -> &'static str {
        match self {
            Self::Uring => "uring",
            Self::Poll => "poll",
        }
    }
}

/// How a [`Server`] is started.
#[derive(Clone, Debug)]
pub struct ServerOptions {
    /// The reactor.
    pub engine: Engine,
    /// Gateway workers.
    pub workers: u16,
    /// `--insecure-dev`; without it the test passes its own auth flags in `extra`.
    pub insecure_dev: bool,
    /// More flags.
    pub extra: Vec<String>,
    /// More environment, for example settings that have no flag.
    pub environment: Vec<(String, String)>,
    /// Where the WebSocket, API and admin listeners are; `None`: on free ports.
    pub listeners: Option<[SocketAddr; 3]>,
    /// Soft and hard limit on open descriptors.
    pub descriptors: Option<(u32, u32)>,
    /// A data directory to reuse; `None` makes a fresh one that goes with the server.
    pub data: Option<PathBuf>,
    /// Put the data directory on a disk of its own of this many MiB (a tmpfs in a mount namespace: root only).
    pub disk_mib: Option<u32>,
}

impl ServerOptions {
    /// Returns the options most tests start from: one worker, development mode, a fresh directory.
    pub fn new(engine: Engine) -> Self {
        Self {
            engine,
            workers: 1,
            insecure_dev: true,
            extra: Vec::new(),
            environment: Vec::new(),
            listeners: None,
            descriptors: None,
            data: None,
            disk_mib: None,
        }
    }

    /// Adds a flag with its value.
    pub fn flag(mut self, name: &str, value: &str) -> Self {
        self.extra.extend([name.to_owned(), value.to_owned()]);
        self
    }

    /// Adds a setting by its environment name, for example `GATEWAY__BATCH_LINGER_MS`.
    pub fn setting(mut self, name: &str, value: &str) -> Self {
        self.environment
            .push((format!("TIDEGATE_{name}"), value.to_owned()));
        self
    }

    /// Listens where a server that is gone did.
    pub fn in_place_of(mut self, server: &Server) -> Self {
        self.listeners = Some([server.listen, server.api, server.admin]);
        self.data(&server.data)
    }

    /// Uses an existing data directory.
    pub fn data(mut self, path: &Path) -> Self {
        self.data = Some(path.to_owned());
        self
    }

    /// Starts the server and waits for its `ready` line.
    ///
    /// Errors: the process ended or said nothing for 30 s; the message carries what it printed.
    pub fn start(&self) -> Result<Server> {
        let (data, _owned) = match &self.data {
            Some(path) => (path.clone(), None),
            None => {
                let fresh = tempfile::tempdir()?;
                (fresh.path().to_owned(), Some(fresh))
            }
        };
        let mut command = match (self.disk_mib, self.descriptors) {
            (None, None) => Command::new(binary()),
            (Some(mib), _) => {
                let mut command = Command::new("unshare");
                let script = format!("mount -t tmpfs -o size={mib}m none \"$0\" && exec \"$@\"");
                command
                    .args(["--mount", "sh", "-c", &script])
                    .arg(&data)
                    .arg(binary());
                command
            }
            (None, Some((soft, hard))) => limited(soft, hard),
        };
        let [listen, api, admin] = self.listeners.map_or_else(
            || [FREE_PORT; 3].map(str::to_owned),
            |all| all.map(|one| one.to_string()),
        );
        command.args(["serve", "--listen", &listen, "--api", &api, "--admin", &admin]);
        command.args([
            "--engine",
            self.engine.flag(),
            "--workers",
            &self.workers.to_string(),
        ]);
        command.arg("--data").arg(&data).args(&self.extra);
        if self.insecure_dev {
            command.arg("--insecure-dev");
        }
        // No balancer watches, unless the test is about one.
        command.env("TIDEGATE_GATEWAY__DRAIN_DELAY_MS", "0");
        command.envs(self.environment.iter().cloned());
        let mut process = Process::spawn(command)?;
        let ready = process.ready_line(Duration::from_secs(30))?;
        let address = |name: &str| -> Result<SocketAddr> {
            let field = field(&ready, name).with_context(|| format!("no {name} in {ready:?}"))?;
            field.parse().with_context(|| format!("{name} in {ready:?}"))
        };
        Ok(Server {
            listen: address("listen")?,
            api: address("api")?,
            admin: address("admin")?,
            ready: ready.clone(),
            data,
            process,
            _owned,
        })
    }
}

/// Returns a command that runs the binary with other limits on open descriptors; its arguments are still to come.
pub fn limited(soft: u32, hard: u32) -> Command {
    let mut command = Command::new("sh");
    let script = format!("ulimit -Sn {soft} && ulimit -Hn {hard} && exec \"$0\" \"$@\"");
    command.args(["-c", &script]).arg(binary());
    command
}

const FREE_PORT: &str = "127.0.0.1:0";

/// A running `tidegate serve`. Dropping it kills the process.
pub struct Server {
    /// The WebSocket listener.
    pub listen: SocketAddr,
    /// The HTTP API.
    pub api: SocketAddr,
    /// Health and metrics.
    pub admin: SocketAddr,
    /// The `ready` line as printed.
    pub ready: String,
    /// The data directory.
    pub data: PathBuf,
    /// The process itself.
    pub process: Process,
    _owned: Option<tempfile::TempDir>,
}

impl Server {
    /// Ends the process at once, as a crash would, and waits until it is gone.
    pub fn kill9(&mut self) -> Result<()> {
        self.process.kill9()
    }

    /// Asks the process to drain and returns how it ended.
    pub fn terminate(&mut self, within: Duration) -> Result<ExitStatus> {
        self.process.signal(Signal::TERM)?;
        self.process.wait(within)
    }

    /// Takes the data directory out, so that it outlives the process.
    pub fn keep_data(&mut self) -> Option<tempfile::TempDir> {
        self._owned.take()
    }
}

/// A child process whose output is collected.
pub struct Process {
    child: Child,
    lines: std::sync::mpsc::Receiver<String>,
    errors: Arc<Mutex<String>>,
}

impl Process {
    /// Starts a command with its output captured.
    pub fn spawn(mut command: Command) -> Result<Self> {
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command
            .spawn()
            .with_context(|| format!("cannot start {command:?}"))?;
        let stdout = child.stdout.take().context("no standard output")?;
        let mut stderr = child.stderr.take().context("no standard error")?;
        let (sender, lines) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(|line| line.ok()) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        let errors = Arc::new(Mutex::new(String::new()));
        let sink = Arc::clone(&errors);
        std::thread::spawn(move || {
            let mut chunk = [0; 4096];
            while let Ok(count @ 1..) = stderr.read(&mut chunk) {
                sink.lock()
                    .expect("no panic holds it")
                    .push_str(&String::from_utf8_lossy(&chunk[..count]));
            }
        });
        Ok(Self { child, lines, errors })
    }

    /// Returns the process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits for the line that starts with `ready `.
    pub fn ready_line(&mut self, within: Duration) -> Result<String> {
        let deadline = Instant::now() + within;
        loop {
            match self
                .lines
                .recv_timeout(deadline.saturating_duration_since(Instant::now()))
            {
                Ok(line) if line.starts_with("ready ") => return Ok(line),
                Ok(_) => {}
                Err(_) => {
                    let status = self.child.try_wait()?;
                    bail!(
                        "not ready within {within:?} (status {status:?}): {}",
                        self.errors()
                    );
                }
            }
        }
    }

    /// Returns what was printed on standard output since the last call.
    pub fn output(&mut self) -> Vec<String> {
        self.lines.try_iter().collect()
    }

    /// Returns everything printed on standard error so far.
    pub fn errors(&self) -> String {
        self.errors.lock().expect("no panic holds it").clone()
    }

    /// Sends a signal. By a system call: a command would take longer than some of what is tested.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        kill_process(Pid::from_child(&self.child), signal)
            .with_context(|| format!("sending {signal:?} to {}", self.id()))
    }

    /// Kills the process and reaps it.
    pub fn kill9(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Waits for the process to end by itself.
    pub fn wait(&mut self, within: Duration) -> Result<ExitStatus> {
        let deadline = Instant::now() + within;
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            if Instant::now() > deadline {
                bail!("still running after {within:?}: {}", self.errors());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Starts the echo mode on one worker and a free port.
pub fn echo(engine: Engine) -> Result<Process> {
    let mut command = Command::new(binary());
    command.args(["echo", "--listen", "127.0.0.1:0", "--workers", "1"]);
    command.args(["--engine", engine.flag()]);
    Process::spawn(command)
}

/// Returns the binary under test: `TEST_TIDEGATE_BIN`, else the one built beside the test (release before debug).
pub fn binary() -> PathBuf {
    sibling("TEST_TIDEGATE_BIN", "tidegate")
}

/// Returns the load tool: `TEST_LOADTEST_BIN`, else the one built beside the test.
pub fn loadtest_binary() -> PathBuf {
    sibling("TEST_LOADTEST_BIN", "loadtest")
}

fn sibling(variable: &str, name: &str) -> PathBuf {
    if let Some(path) = std::env::var_os(variable) {
        return path.into();
    }
    let test = std::env::current_exe().expect("a running test has a path");
    let profile = test
        .parent()
        .and_then(Path::parent)
        .expect("tests run from target/<profile>/deps");
    let here = profile.join(name);
    let release = profile.with_file_name("release").join(name);
    if release.exists() && !here.exists() {
        release
    } else {
        here
    }
}

/// Returns the value of `name=value` in a line of such words.
pub fn field<'a>(line: &'a str, name: &str) -> Option<&'a str> {
    line.split_whitespace()
        .find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
}
