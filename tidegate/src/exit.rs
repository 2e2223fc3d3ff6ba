//! How a command ends: 0 good, 1 fault, 2 usage.

use std::process::ExitCode;

/// A setting, flag or combination of them that cannot be used: exit code 2.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Usage(pub(crate) String);

/// Prints the error, if any, and returns the exit code.
pub(crate) fn report(result: anyhow::Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {}", sentence(&error));
            ExitCode::from(if error.is::<Usage>() { 2 } else { 1 })
        }
    }
}

/// Joins an error and its causes; a cause that the text before already ends with is not repeated.
fn sentence(error: &anyhow::Error) -> String {
    let mut sentence = String::new();
    for link in error.chain().map(ToString::to_string) {
        if sentence.is_empty() {
            sentence = link;
        } else if !sentence.ends_with(&link) {
            sentence.push_str(": ");
            sentence.push_str(&link);
        }
    }
    sentence
}

#[cfg(test)]
mod tests {
    use anyhow::anyhow;

    use super::*;

    #[test]
    fn a_cause_is_said_once() {
        let error = anyhow!("in use").context("the log: in use").context("data");
        assert_eq!(sentence(&error), "data: the log: in use");
        let error = anyhow!("no such file").context("--config");
        assert_eq!(sentence(&error), "--config: no such file");
    }
}
