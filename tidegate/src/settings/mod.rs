//! All settings of a process, from one place: defaults, then the file, then the environment, then flags.
//!
//! Reading order: [`Settings`], `layers` (where they come from), `values` (how durations, sizes and addresses are
//! written), `known` (all names, and the one that was meant), `show`.

mod known;
mod layers;
mod show;
mod values;

use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::Result;
use figment::Figment;
use gateway_server::config::GatewayConfig;
use router_server::config::RouterConfig;
use serde::{Deserialize, Serialize};

use crate::args::{PublicAlgorithm, ServeArgs};
use crate::exit::Usage;

pub(crate) use values::{parse_address, parse_bytes, parse_seconds};

/// The file that `tidegate config default` prints; a test holds it to [`Settings::default`].
pub(crate) const DEFAULT_FILE: &str = include_str!("default.toml");

/// Everything that can be set.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Settings {
    pub(crate) gateway: GatewayConfig,
    pub(crate) router: RouterConfig,
    pub(crate) api: ApiSettings,
    pub(crate) admin: AdminSettings,
    pub(crate) auth: AuthSettings,
    pub(crate) log: LogSettings,
}

/// The section `[api]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct ApiSettings {
    pub(crate) listen: SocketAddr,
}

impl Default for ApiSettings {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 9001)),
        }
    }
}

/// The section `[admin]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct AdminSettings {
    pub(crate) listen: SocketAddr,
}

impl Default for AdminSettings {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 9002)),
        }
    }
}

/// The section `[auth]`. Exactly one of the first three must be given.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct AuthSettings {
    pub(crate) insecure_dev: bool,
    pub(crate) jwt_hs256_secret_file: Option<PathBuf>,
    pub(crate) jwt_public_key: Option<PathBuf>,
    pub(crate) jwt_alg: Option<Algorithm>,
    pub(crate) jwt_issuer: Option<String>,
    pub(crate) jwt_audience: Option<String>,
}

/// Algorithm of `auth.jwt_public_key`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Algorithm {
    #[serde(rename = "RS256")]
    Rs256,
    #[serde(rename = "ES256")]
    Es256,
    #[serde(rename = "EdDSA")]
    EdDsa,
}

impl From<PublicAlgorithm> for Algorithm {
    fn from(flag: PublicAlgorithm) -> Self {
        match flag {
            PublicAlgorithm::Rs256 => Self::Rs256,
            PublicAlgorithm::Es256 => Self::Es256,
            PublicAlgorithm::EdDsa => Self::EdDsa,
        }
    }
}

/// The section `[log]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct LogSettings {
    pub(crate) level: String,
    pub(crate) format: LogFormat,
}

impl Default for LogSettings {
    fn default() -> Self {
        Self {
            level: "info,fjall=warn,lsm_tree=warn".to_owned(),
            format: LogFormat::Text,
        }
    }
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LogFormat {
    Text,
    Json,
}

impl Settings {
    /// Layers the settings and checks them.
    ///
    /// Errors: [`Usage`], naming the setting at fault.
    pub(crate) fn load(args: &ServeArgs) -> Result<Self> {
        let settings = Self::extract(&layers::layered(args)?)?;
        settings.check()?;
        Ok(settings)
    }

    /// Returns the settings in force and where each comes from, as a file; and what [`Self::load`] says of them.
    ///
    /// Errors: [`Usage`] where there is nothing to show.
    pub(crate) fn show(args: &ServeArgs) -> Result<(String, Result<()>)> {
        let layers = layers::layered(args)?;
        let settings = Self::extract(&layers)?;
        Ok((show::effective(&settings, &layers)?, settings.check()))
    }

    fn extract(layers: &Figment) -> Result<Self> {
        Ok(layers.extract().map_err(|error| Usage(explain(&error)))?)
    }

    /// Checks each section and what must hold between them.
    fn check(&self) -> Result<()> {
        self.gateway
            .hub()
            .map_err(|error| Usage(format!("gateway.{error}")))?;
        self.gateway
            .check_origins()
            .map_err(|error| Usage(format!("gateway.{error}")))?;
        self.gateway
            .check_drain_delay()
            .map_err(|error| Usage(format!("gateway.{error}")))?;
        self.gateway
            .check_coalesce()
            .map_err(|error| Usage(format!("gateway.{error}")))?;
        self.router.check().map_err(|error| Usage(error.to_string()))?;
        self.auth.check(&[
            ("gateway.listen", self.gateway.listen),
            ("api.listen", self.api.listen),
            ("admin.listen", self.admin.listen),
        ])
    }
}

impl AuthSettings {
    /// Returns the setting that names the key file; there is one unless `insecure_dev` is set.
    pub(crate) fn key_setting(&self) -> &'static str {
        match &self.jwt_public_key {
            Some(_) => "auth.jwt_public_key",
            None => "auth.jwt_hs256_secret_file",
        }
    }

    fn check(&self, listeners: &[(&str, SocketAddr)]) -> Result<()> {
        let usage = |text: String| Err(Usage(text).into());
        let given = [
            self.insecure_dev,
            self.jwt_hs256_secret_file.is_some(),
            self.jwt_public_key.is_some(),
        ];
        match given.iter().filter(|is| **is).count() {
            0 => {
                return usage(
                    "auth: nothing says who may connect: give --jwt-hs256-secret-file FILE, or --jwt-public-key FILE \
                     with --jwt-alg, or, for development on loopback, --insecure-dev"
                        .to_owned(),
                );
            }
            1 => {}
            _ => {
                return usage(
                    "auth: give only one of insecure_dev, jwt_hs256_secret_file and jwt_public_key"
                        .to_owned(),
                );
            }
        }
        if self.jwt_public_key.is_some() != self.jwt_alg.is_some() {
            return usage("auth.jwt_alg: goes with auth.jwt_public_key, and only with it".to_owned());
        }
        if self.insecure_dev {
            for (name, address) in listeners {
                if !address.ip().is_loopback() {
                    return usage(format!(
                        "{name}: {address} is not a loopback address, which auth.insecure_dev needs"
                    ));
                }
            }
        }
        Ok(())
    }
}

/// Words a figment error so that it names the setting and where its value came from.
fn explain(error: &figment::Error) -> String {
    let path = error.path.join(".");
    let source = error
        .metadata
        .as_ref()
        .map_or(String::new(), |metadata| format!(" (from {})", metadata.name));
    format!("{path}: {}{source}", error.kind)
}

#[cfg(test)]
mod tests;
