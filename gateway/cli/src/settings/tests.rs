//! Settings from outside in: what a file, a variable or a flag says is what the server gets.

use super::*;

fn flags() -> ServeArgs {
    ServeArgs {
        insecure_dev: true,
        ..ServeArgs::default()
    }
}

#[test]
fn the_printed_default_file_says_exactly_the_defaults() {
    let printed: Settings = Figment::from(Toml::string(DEFAULT_FILE)).extract().unwrap();
    assert_eq!(printed, Settings::default());
}

#[test]
fn every_setting_stands_in_the_printed_default_file_with_a_comment() {
    let all = toml::Table::try_from(Settings::default()).unwrap();
    for (section, settings) in all {
        for name in settings.as_table().unwrap().keys() {
            assert_documented(&section, name);
        }
    }
    // Settings without a default are not in the serialized form.
    for (section, name) in [
        ("gateway", "connections_max"),
        ("router", "sends_per_s"),
        ("auth", "jwt_hs256_secret_file"),
        ("auth", "jwt_public_key"),
        ("auth", "jwt_alg"),
        ("auth", "jwt_issuer"),
        ("auth", "jwt_audience"),
    ] {
        assert_documented(section, name);
    }
}

fn assert_documented(section: &str, name: &str) {
    let body = DEFAULT_FILE
        .split(&format!("[{section}]"))
        .nth(1)
        .unwrap_or_else(|| panic!("no section {section}"));
    let body = body.split("\n[").next().unwrap();
    let lines: Vec<&str> = body.lines().collect();
    let at = lines
        .iter()
        .position(|line| line.trim_start_matches("# ").starts_with(&format!("{name} = ")))
        .unwrap_or_else(|| panic!("{section}.{name} is not in the default file"));
    assert!(
        at > 0 && lines[at - 1].starts_with('#'),
        "{section}.{name} has no comment"
    );
}

#[test]
#[expect(clippy::result_large_err, reason = "the error type of figment's test jail")]
fn flags_win_over_environment_over_file() {
    figment::Jail::expect_with(|jail| {
        jail.create_file(
            "t.toml",
            "[gateway]\nworkers = 2\nbatch_linger_ms = 7\n[api]\nlisten = \"127.0.0.1:1\"\n",
        )?;
        jail.set_env("TIDEGATE_GATEWAY__WORKERS", "3");
        jail.set_env("TIDEGATE_API__LISTEN", "127.0.0.1:2");
        let mut args = ServeArgs {
            config: Some("t.toml".into()),
            ..flags()
        };
        args.api = Some("127.0.0.1:3".parse().unwrap());
        let settings = Settings::load(&args).unwrap();
        assert_eq!(settings.gateway.batch_linger_ms, 7);
        assert_eq!(settings.gateway.workers, 3);
        assert_eq!(settings.api.listen.port(), 3);
        Ok(())
    });
}

#[test]
#[expect(clippy::result_large_err, reason = "the error type of figment's test jail")]
fn a_wrong_setting_is_named() {
    figment::Jail::expect_with(|jail| {
        let cases = [
            ("[gateway]\nworkers = \"many\"\n", "gateway.workers"),
            ("[gateway]\nworker = 2\n", "worker"),
            ("[gateway]\nbatch_linger_ms = 101\n", "gateway.batch_linger_ms"),
            ("[gateway]\nlisten = \"localhost\"\n", "gateway.listen"),
            ("[gateway]\nlisten = \"0.0.0.0:1\"\n", "gateway.listen"),
            (
                "[gateway]\nallowed_origins = [\"https://a.example\", \"not a url\"]\n",
                "gateway.allowed_origins: \"not a url\"",
            ),
            ("[gatway]\nworkers = 2\n", "gatway"),
            ("[auth]\njwt_alg = \"none\"\n", "auth.jwt_alg"),
            ("[auth]\njwt_alg = \"RS256\"\n", "auth.jwt_alg"),
            ("[auth]\njwt_public_key = \"k\"\n", "insecure_dev"),
        ];
        for (file, name) in cases {
            jail.create_file("t.toml", file)?;
            let args = ServeArgs {
                config: Some("t.toml".into()),
                ..flags()
            };
            let error = Settings::load(&args).expect_err(file).to_string();
            assert!(error.contains(name), "{file}: {error}");
        }
        Ok(())
    });
}

#[test]
fn without_any_auth_option_the_settings_are_refused() {
    let error = Settings::load(&ServeArgs::default()).unwrap_err();
    assert!(
        error.is::<Usage>() && error.to_string().contains("--insecure-dev"),
        "{error}"
    );
}
