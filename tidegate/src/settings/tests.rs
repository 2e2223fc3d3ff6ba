//! Settings from outside in: what a file, a variable or a flag says is what the server gets.

use super::*;

fn flags() -> ServeArgs {
    ServeArgs {
        insecure_dev: true,
        ..ServeArgs::default()
    }
}

fn file_and_flags() -> ServeArgs {
    ServeArgs {
        config: Some("t.toml".into()),
        ..flags()
    }
}

#[test]
fn the_printed_default_file_says_exactly_the_defaults() {
    let printed: Settings = toml::from_str(DEFAULT_FILE).unwrap();
    assert_eq!(printed, Settings::default());
}

/// Names of settings are looked up there.
#[test]
fn nothing_stands_in_the_printed_default_file_that_is_no_setting() {
    let sections = DEFAULT_FILE.split_once("\n[").unwrap().1;
    let uncommented = |line: &str| {
        let is_setting = known::all().any(|known| line.starts_with(&format!("# {} = ", known.name)));
        line[if is_setting { 2 } else { 0 }..].to_owned() + "\n"
    };
    let file: String = format!("[{sections}").lines().map(uncommented).collect();
    let settings: Settings = toml::from_str(&file).unwrap();
    assert!(settings.gateway.connections_max.is_some() && settings.auth.jwt_alg.is_some());
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
        let mut args = file_and_flags();
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
fn durations_and_sizes_may_have_units_in_files_and_variables() {
    figment::Jail::expect_with(|jail| {
        jail.create_file(
            "t.toml",
            "[gateway]\nping_interval_ms = \"40s\"\ndrain_ms = 250\n[router]\nlog_segment_bytes = \"8MiB\"\n",
        )?;
        jail.set_env("TIDEGATE_ROUTER__RETENTION_DAYS", "8weeks");
        jail.set_env("TIDEGATE_ROUTER__GROUP_BYTES_MAX", "100000");
        let settings = Settings::load(&file_and_flags()).unwrap();
        assert_eq!(settings.gateway.ping_interval_ms, 40_000);
        assert_eq!(settings.gateway.drain_ms, 250);
        assert_eq!(settings.router.log_segment_bytes, 8 << 20);
        assert_eq!(settings.router.retention_days, 56);
        assert_eq!(settings.router.group_bytes_max, 100_000);
        Ok(())
    });
}

/// A number without a unit in its setting's name counts something; one with a unit must be one that `Unit` knows.
#[test]
fn every_number_of_a_size_or_duration_has_its_unit_in_its_name() {
    for (section, settings) in toml::Table::try_from(Settings::default()).unwrap() {
        for (name, value) in settings.as_table().unwrap() {
            let counts = ["_max", "_per_tick", "_burst"]
                .iter()
                .any(|end| name.ends_with(end))
                || name == "workers";
            let is_number = value.is_integer() && !counts;
            assert!(!is_number || values::Unit::of(name).is_some(), "{section}.{name}");
        }
    }
}

#[test]
#[expect(clippy::result_large_err, reason = "the error type of figment's test jail")]
fn what_is_in_force_is_shown_with_its_source() {
    figment::Jail::expect_with(|jail| {
        jail.create_file("secret", "not to be seen")?;
        jail.create_file("t.toml", "[gateway]\nworkers = 2\nbatch_linger_ms = \"7ms\"\n")?;
        jail.set_env("TIDEGATE_GATEWAY__WORKERS", "3");
        jail.set_env("TIDEGATE_AUTH__JWT_HS256_SECRET_FILE", "secret");
        let args = ServeArgs {
            listen: Some("127.0.0.1:1".parse().unwrap()),
            config: Some("t.toml".into()),
            ..ServeArgs::default()
        };
        let (shown, verdict) = Settings::show(&args).unwrap();
        verdict.unwrap();
        for (line, source) in [
            ("listen = \"127.0.0.1:1\"", "--listen"),
            ("workers = 3", "TIDEGATE_GATEWAY__WORKERS"),
            ("batch_linger_ms = 7", "t.toml"),
            ("# connections_max is not set", "default"),
            ("listen = \"127.0.0.1:9001\"", "default"),
            (
                "jwt_hs256_secret_file = \"secret\"",
                "TIDEGATE_AUTH__JWT_HS256_SECRET_FILE",
            ),
        ] {
            let found = shown.lines().find(|shown| shown.starts_with(line));
            assert!(
                found.is_some_and(|found| found.ends_with(&format!(" # {source}"))),
                "{line}\n{shown}"
            );
        }
        assert!(!shown.contains("not to be seen"));
        assert_eq!(
            toml::from_str::<Settings>(&shown).unwrap(),
            Settings::load(&args).unwrap()
        );
        Ok(())
    });
}

#[test]
#[expect(clippy::result_large_err, reason = "the error type of figment's test jail")]
fn settings_that_would_be_refused_are_shown_all_the_same() {
    figment::Jail::expect_with(|jail| {
        let (shown, verdict) = Settings::show(&ServeArgs::default()).unwrap();
        assert!(shown.contains("\n[auth]\ninsecure_dev = false"), "{shown}");
        assert!(verdict.unwrap_err().is::<Usage>());
        // A number that TOML has not.
        jail.set_env("TIDEGATE_GATEWAY__OUTBOX_TOTAL_BYTES_MAX", u64::MAX.to_string());
        assert!(Settings::show(&ServeArgs::default()).unwrap_err().is::<Usage>());
        Ok(())
    });
}

#[test]
#[expect(clippy::result_large_err, reason = "the error type of figment's test jail")]
fn a_variable_with_one_underscore_too_few_is_refused_and_foreign_ones_are_not() {
    figment::Jail::expect_with(|jail| {
        for foreign in [
            "TIDEGATE_PORT",
            "TIDEGATE_GATEWAY_SERVICE_HOST",
            "TIDEGATE_API_PORT_9001_TCP",
        ] {
            jail.set_env(foreign, "tcp://10.0.0.1:9001");
        }
        Settings::load(&flags()).unwrap();
        jail.set_env("TIDEGATE_GATEWAY_PING_INTERVAL_MS", "1000");
        let error = Settings::load(&flags()).unwrap_err().to_string();
        assert_eq!(
            error,
            "TIDEGATE_GATEWAY_PING_INTERVAL_MS: two underscores stand between section and name: \
             TIDEGATE_GATEWAY__PING_INTERVAL_MS"
        );
        Ok(())
    });
}

#[test]
#[expect(clippy::result_large_err, reason = "the error type of figment's test jail")]
fn a_wrong_setting_is_named() {
    figment::Jail::expect_with(|jail| {
        let cases = [
            ("[gateway]\nworkers = \"many\"\n", "gateway.workers: "),
            ("[gateway]\nworkers = \"many\"\n", "(from t.toml)"),
            (
                "[gateway]\nworker = 2\n",
                "gateway.worker: no such setting (from t.toml); did you mean gateway.workers?",
            ),
            (
                "data_dir = \"x\"\n",
                "data_dir: no such setting (from t.toml); did you mean router.data_dir?",
            ),
            (
                "[gateway]\ncolour = 2\n",
                "gateway.colour: no such setting (from t.toml)",
            ),
            (
                "[gateway]\nping_interval_ms = \"soon\"\n",
                "gateway.ping_interval_ms: write a whole number of ms, or a duration such as",
            ),
            ("[gateway]\nping_interval_ms = 2.5\n", "gateway.ping_interval_ms"),
            (
                "[router]\nlog_segment_bytes = \"8 apples\"\n",
                "router.log_segment_bytes: write",
            ),
            ("[api]\nlisten = \":9001\"\n", "such as 127.0.0.1:9000"),
            ("[empty]\n", "empty"),
            ("gateway = 3\n", "gateway"),
            ("[gateway\n", "--config: t.toml: "),
            ("[gateway]\nbatch_linger_ms = 101\n", "gateway.batch_linger_ms"),
            ("[gateway]\ndrain_delay_ms = 3600001\n", "gateway.drain_delay_ms"),
            ("[gateway]\ncoalesce_us = 10001\n", "gateway.coalesce_us"),
            ("[gateway]\nlisten = \"localhost\"\n", "gateway.listen"),
            ("[gateway]\nlisten = \"0.0.0.0:1\"\n", "gateway.listen"),
            (
                "[gateway]\nallowed_origins = [\"https://a.example\", \"not a url\"]\n",
                "gateway.allowed_origins: \"not a url\"",
            ),
            ("[gatway]\nworkers = 2\n", "did you mean gateway.workers?"),
            ("[auth]\njwt_alg = \"none\"\n", "auth.jwt_alg"),
            ("[auth]\njwt_alg = \"RS256\"\n", "auth.jwt_alg"),
            ("[auth]\njwt_public_key = \"k\"\n", "insecure_dev"),
        ];
        for (file, name) in cases {
            jail.create_file("t.toml", file)?;
            let error = Settings::load(&file_and_flags()).expect_err(file).to_string();
            assert!(error.contains(name), "{file}: {error}");
        }
        Ok(())
    });
}

#[test]
#[expect(clippy::result_large_err, reason = "the error type of figment's test jail")]
fn without_any_auth_option_the_settings_are_refused() {
    // The jail keeps the variables of other tests away.
    figment::Jail::expect_with(|_| {
        let error = Settings::load(&ServeArgs::default()).unwrap_err();
        assert!(
            error.is::<Usage>() && error.to_string().contains("--insecure-dev"),
            "{error}"
        );
        Ok(())
    });
}
