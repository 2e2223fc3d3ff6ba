//! The files of `--out`: `latency.hlog`, an interval log in the format of HdrHistogram, and `run.json`.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use hdrhistogram::serialization::V2DeflateSerializer;
use hdrhistogram::serialization::interval_log::{IntervalLogWriterBuilder, IntervalLogWriterError, Tag};

use crate::clock::Ns;
use crate::error::RunError;
use crate::measure::{Recorder, Series};
use crate::report::Report;

/// `latency.hlog`: one line for each interval and series, tagged with the series' name; values are nanoseconds.
///
/// Shape: logs of several runs or agents merge by adding the histograms of a tag.
pub(crate) struct IntervalLog {
    path: PathBuf,
    file: BufWriter<File>,
    serializer: V2DeflateSerializer,
}

impl IntervalLog {
    /// Creates the directory and the log in it; `replace` removes the files of an earlier run.
    ///
    /// Errors: `Usage` when there are such files and they are not to be replaced.
    pub(crate) fn create(directory: &Path, replace: bool, started: SystemTime) -> Result<Self, RunError> {
        clear(directory, replace)?;
        let path = directory.join(LOG_FILE);
        let open = || {
            std::fs::create_dir_all(directory)?;
            let mut file = BufWriter::new(File::create_new(&path)?);
            let mut serializer = V2DeflateSerializer::new();
            IntervalLogWriterBuilder::new()
                .add_comment("[Histogram log format version 1.3]")
                .with_start_time(started)
                .with_base_time(started)
                .begin_log_with(&mut file, &mut serializer)?;
            writeln!(
                file,
                "\"StartTimestamp\",\"Interval_Length\",\"Interval_Max\",\"Interval_Compressed_Histogram\""
            )?;
            Ok(Self {
                path: path.clone(),
                file,
                serializer,
            })
        };
        open().map_err(|source| RunError::Output {
            path: path.clone(),
            source,
        })
    }

    /// Writes what was measured in one interval.
    pub(crate) fn write(&mut self, interval: &Recorder, start: Ns, span: Duration) -> Result<(), RunError> {
        let Self {
            path,
            file,
            serializer,
        } = self;
        let mut write = || {
            let mut log = IntervalLogWriterBuilder::new().begin_log_with(file, serializer)?;
            for series in Series::ALL {
                let histogram = interval.series(series);
                if !histogram.is_empty() {
                    log.write_histogram(histogram, start - Ns(0), span, Tag::new(series.tag()))
                        .map_err(as_io)?;
                }
            }
            Ok(())
        };
        write().map_err(|source| RunError::Output {
            path: path.clone(),
            source,
        })
    }

    /// Writes what is still in memory.
    pub(crate) fn finish(mut self) -> Result<(), RunError> {
        self.file.flush().map_err(|source| RunError::Output {
            path: self.path,
            source,
        })
    }
}

/// Makes sure that no file of an earlier run is there, so that those of two runs never mix.
fn clear(directory: &Path, replace: bool) -> Result<(), RunError> {
    for path in [LOG_FILE, REPORT_FILE].map(|name| directory.join(name)) {
        if !path.exists() {
            continue;
        }
        if !replace {
            let reason = format!("{} is there already; --force replaces it", path.display());
            return Err(RunError::usage("--out", reason));
        }
        std::fs::remove_file(&path).map_err(|source| RunError::Output { path, source })?;
    }
    Ok(())
}

fn as_io<E: std::fmt::Display>(error: IntervalLogWriterError<E>) -> io::Error {
    match error {
        IntervalLogWriterError::IoError(error) => error,
        IntervalLogWriterError::SerializeError(error) => io::Error::other(error.to_string()),
    }
}

/// Writes `run.json`.
pub(crate) fn write_report(directory: &Path, report: &Report) -> Result<(), RunError> {
    let path = directory.join(REPORT_FILE);
    let write = || {
        std::fs::create_dir_all(directory)?;
        let mut json = report.to_json();
        json.push('\n');
        std::fs::write(&path, json)
    };
    write().map_err(|source| RunError::Output {
        path: path.clone(),
        source,
    })
}

const LOG_FILE: &str = "latency.hlog";
const REPORT_FILE: &str = "run.json";
