//! Where settings come from: defaults, a file, variables, flags. Each is a layer over the ones before it.

use std::io::Read;
use std::path::Path;

use figment::value::{Dict, Map, Value};
use figment::{Error, Figment, Metadata, Profile, Provider};
use gateway_server::config::EngineSetting;
use serde::Serialize;

use super::known::{self, Known, PREFIX};
use super::values::{Unit, parse_address};
use super::{Algorithm, Settings};
use crate::args::ServeArgs;
use crate::exit::Usage;

/// Returns all layers, the strongest last.
///
/// Errors: names the setting and its source: a file or variable that cannot be read, a name that is none, a value that
/// its unit does not allow.
pub(super) fn layered(args: &ServeArgs) -> Result<Figment, Usage> {
    let mut layers = vec![defaults()];
    if let Some(path) = &args.config {
        layers.push(file(path)?);
    }
    layers.extend(environment()?);
    layers.extend(flags(args)?);
    let mut figment = Figment::new();
    for mut layer in layers {
        layer.read_values()?;
        figment = figment.merge(layer);
    }
    Ok(figment)
}

/// What the settings nobody set come from.
pub(super) const DEFAULT: &str = "default";

/// Sections of settings from one source.
struct Layer {
    /// As people are told: the file's path, the variable's name, the flag.
    source: String,
    sections: Dict,
}

impl Layer {
    fn of_one(source: String, section: &str, name: &str, value: Value) -> Self {
        let settings = Dict::from([(name.to_owned(), value)]);
        let sections = Dict::from([(section.to_owned(), settings.into())]);
        Self { source, sections }
    }

    /// Checks the names and turns durations, sizes and addresses into what the settings hold.
    fn read_values(&mut self) -> Result<(), Usage> {
        let source = &self.source;
        for (section, settings) in &mut self.sections {
            let Value::Dict(_, settings) = settings else {
                return Err(no_such("", section, source));
            };
            for (name, value) in settings {
                if !known::all().any(|known| known.section == section && known.name == name) {
                    return Err(no_such(section, name, source));
                }
                read_value(name, value)
                    .map_err(|error| Usage(format!("{section}.{name}: {error} (from {source})")))?;
            }
        }
        Ok(())
    }
}

/// Refuses a setting by its name; `section` is empty where it stands in none.
fn no_such(section: &str, name: &str, source: &str) -> Usage {
    let dot = if section.is_empty() { "" } else { "." };
    let meant = known::meant_by(section, name);
    let meant = meant.map_or_else(String::new, |known| format!("; did you mean {known}?"));
    Usage(format!(
        "{section}{dot}{name}: no such setting (from {source}){meant}"
    ))
}

fn read_value(name: &str, value: &mut Value) -> Result<(), String> {
    let Value::String(_, text) = &*value else {
        return Ok(());
    };
    if let Some(unit) = Unit::of(name) {
        *value = unit.parse(text)?.into();
    } else if name == "listen" {
        *value = parse_address(text)?.to_string().into();
    }
    Ok(())
}

impl Provider for Layer {
    fn metadata(&self) -> Metadata {
        Metadata::named(self.source.clone())
    }

    fn data(&self) -> Result<Map<Profile, Dict>, Error> {
        Ok(Map::from([(Profile::Default, self.sections.clone())]))
    }
}

fn defaults() -> Layer {
    let settings = Value::serialize(Settings::default()).ok();
    Layer {
        source: DEFAULT.to_owned(),
        sections: settings
            .and_then(Value::into_dict)
            .expect("settings are sections of plain values"),
    }
}

/// Reads a file of settings; `-` is standard input.
fn file(path: &Path) -> Result<Layer, Usage> {
    let (source, text) = if path == Path::new("-") {
        let mut text = String::new();
        let read = std::io::stdin().read_to_string(&mut text);
        ("standard input".to_owned(), read.map(|_| text))
    } else {
        (path.display().to_string(), std::fs::read_to_string(path))
    };
    let text = text.map_err(|error| Usage(format!("--config: {source}: {error}")))?;
    let sections = toml::from_str(&text).map_err(|error| Usage(format!("--config: {source}: {error}")))?;
    Ok(Layer { source, sections })
}

/// Returns a layer for each variable of a setting. Other variables may begin alike, those that Kubernetes makes for a
/// service of that name for example, and are not looked at.
fn environment() -> Result<Vec<Layer>, Usage> {
    let mut layers = Vec::new();
    for (variable, value) in std::env::vars_os() {
        let Some(path) = variable
            .to_str()
            .and_then(|variable| variable.strip_prefix(PREFIX))
        else {
            continue;
        };
        let path = path.to_ascii_lowercase();
        let variable = variable.to_string_lossy().into_owned();
        match path.split_once("__") {
            Some((section, name)) => {
                let Some(value) = value.to_str() else {
                    return Err(Usage(format!("{variable}: not UTF-8")));
                };
                let Ok(value) = value.parse();
                layers.push(Layer::of_one(variable, section, name, value));
            }
            None => {
                if let Some(meant) = known::all().find(|known| is_one_underscore_short(&path, *known)) {
                    let right = meant.variable();
                    return Err(Usage(format!(
                        "{variable}: two underscores stand between section and name: {right}"
                    )));
                }
            }
        }
    }
    Ok(layers)
}

fn is_one_underscore_short(path: &str, known: Known) -> bool {
    let rest = path.strip_prefix(known.section);
    rest.and_then(|rest| rest.strip_prefix('_')) == Some(known.name)
}

/// Returns a layer for each flag that was given.
fn flags(args: &ServeArgs) -> Result<Vec<Layer>, Usage> {
    let mut layers = Vec::new();
    let mut flag = |flag: &str, section, name, value: Result<Option<Value>, String>| {
        let value = value.map_err(|error| Usage(format!("{flag}: {error}")))?;
        layers.extend(value.map(|value| Layer::of_one(flag.to_owned(), section, name, value)));
        Ok::<_, Usage>(())
    };
    let engine = args.engine.map(EngineSetting::from);
    let algorithm = args.jwt_alg.map(Algorithm::from);
    let insecure_dev = args.insecure_dev.then_some(true);
    flag("--listen", "gateway", "listen", value(&args.listen))?;
    flag("--workers", "gateway", "workers", value(&args.workers))?;
    flag("--engine", "gateway", "engine", value(&engine))?;
    flag(
        "--drain-delay-ms",
        "gateway",
        "drain_delay_ms",
        value(&args.drain_delay_ms),
    )?;
    flag("--api", "api", "listen", value(&args.api))?;
    flag("--admin", "admin", "listen", value(&args.admin))?;
    flag("--data", "router", "data_dir", value(&args.data))?;
    flag("--insecure-dev", "auth", "insecure_dev", value(&insecure_dev))?;
    let secret = value(&args.jwt_hs256_secret_file);
    flag("--jwt-hs256-secret-file", "auth", "jwt_hs256_secret_file", secret)?;
    flag(
        "--jwt-public-key",
        "auth",
        "jwt_public_key",
        value(&args.jwt_public_key),
    )?;
    flag("--jwt-alg", "auth", "jwt_alg", value(&algorithm))?;
    flag("--jwt-issuer", "auth", "jwt_issuer", value(&args.jwt_issuer))?;
    flag(
        "--jwt-audience",
        "auth",
        "jwt_audience",
        value(&args.jwt_audience),
    )?;
    Ok(layers)
}

/// Errors: a path that is not UTF-8.
fn value<T: Serialize>(given: &Option<T>) -> Result<Option<Value>, String> {
    let value = given.as_ref().map(Value::serialize).transpose();
    value.map_err(|error| error.kind.to_string())
}
