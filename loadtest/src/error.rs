//! What keeps a run from having a result.

use std::io;
use std::path::PathBuf;

use runtime::OpenError;

/// A run that gave no report.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// A setting cannot be used; the caller's fault.
    #[error("{setting}: {reason}")]
    Usage {
        /// The option's name.
        setting: &'static str,
        /// What is wrong with its value.
        reason: String,
    },
    /// The engine cannot run on this host.
    #[error(transparent)]
    Engine(#[from] OpenError),
    /// A worker stopped.
    #[error("worker {worker}: {source}")]
    Worker {
        /// Which one, from 0.
        worker: u32,
        /// Why.
        source: io::Error,
    },
    /// A worker panicked: a defect of the tool.
    #[error("worker {worker} panicked")]
    Panicked {
        /// Which one, from 0.
        worker: u32,
    },
    /// Signals cannot be caught.
    #[error("catching signals: {0}")]
    Signals(#[source] io::Error),
    /// The results cannot be written.
    #[error("--out: {}: {source}", path.display())]
    Output {
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl RunError {
    pub(crate) fn usage(setting: &'static str, reason: impl Into<String>) -> Self {
        Self::Usage {
            setting,
            reason: reason.into(),
        }
    }

    /// Returns the exit code of the command: 64 for the caller's fault, 1 for the tool's or the host's.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Usage { .. } => 64,
            Self::Engine(_)
            | Self::Worker { .. }
            | Self::Panicked { .. }
            | Self::Signals(_)
            | Self::Output { .. } => 1,
        }
    }
}
