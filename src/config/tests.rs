//! Tests layers and problems of the configuration as a user sees them.

use std::io::Write;

use secrecy::ExposeSecret;

use super::sources::usual_files;
use super::*;

fn environment(variables: &[(&str, &str)]) -> Sources {
    let environment = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Sources { environment, ..Sources::built_in() }
}

fn with_file(text: &str, variables: &[(&str, &str)]) -> (tempfile::NamedTempFile, Sources) {
    let mut file = tempfile::Builder::new().suffix(".toml").tempfile().expect("a file");
    file.write_all(text.as_bytes()).expect("written");
    let sources = Sources { file: ConfigFile::Given(file.path().to_owned()), ..environment(variables) };
    (file, sources)
}

fn database_url(settings: &Settings) -> String {
    match &settings.database.location {
        DatabaseLocation::Embedded => "embedded".to_owned(),
        DatabaseLocation::Url(url) => url.get().expose_secret().to_owned(),
    }
}

#[test]
fn the_defaults_need_nothing_but_credentials() {
    let settings = load(&Sources::built_in(), Needs::Database).expect("defaults are good");
    assert_eq!(database_url(&settings), "embedded");
    assert_eq!(settings.queue.policy.refresh_after, Duration::from_hours(6));
    assert!(settings.auth.is_none());

    let problems = load(&Sources::built_in(), Needs::Credentials).expect_err("no credentials");
    let keys: Vec<_> = problems.0.iter().map(|problem| problem.key.as_str()).collect();
    assert_eq!(keys, ["auth.client_id", "auth.client_secret"]);
    assert!(problems.to_string().contains("CHATSYNC__AUTH__CLIENT_SECRET"));
}

#[test]
fn a_secret_and_its_file_are_one_setting_of_which_the_later_layer_wins() {
    let secret = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(secret.path(), "postgres://u@mounted/db\n").expect("written");
    let path = secret.path().to_str().expect("UTF-8");
    let in_file = "[database]\nurl = \"postgres://u@baked/db\"\n";
    let (_file, sources) = with_file(in_file, &[("CHATSYNC__DATABASE__URL_FILE", path)]);
    let settings = load(&sources, Needs::Database).expect("good");
    assert_eq!(database_url(&settings), "postgres:///?host=mounted&user=u&dbname=db");

    let in_file = format!("[database]\nurl_file = \"{path}\"\n");
    let (_file, sources) = with_file(&in_file, &[("DATABASE_URL", "postgres://u@variable/db\n")]);
    let settings = load(&sources, Needs::Database).expect("good");
    assert_eq!(database_url(&settings), "postgres:///?host=variable&user=u&dbname=db");

    let both = [("CHATSYNC__DATABASE__URL_FILE", path), ("DATABASE_URL", "postgres://u@variable/db")];
    let problems = load(&environment(&both), Needs::Database).expect_err("a contradiction").to_string();
    assert!(problems.contains("leave out one of them"), "{problems}");
}

#[test]
fn later_layers_win() {
    let file = "[api]\ntimeout = \"9s\"\nconnect_timeout = \"2s\"\n[database]\nurl = \"postgres://u@file/db\"\n";
    let (_file, sources) = with_file(file, &[("CHATSYNC__API__TIMEOUT", "7s")]);
    let settings = load(&sources, Needs::Database).expect("good");
    assert_eq!((settings.api.timeout, settings.api.connect_timeout), (Duration::from_secs(7), Duration::from_secs(2)));
    assert_eq!(database_url(&settings), "postgres:///?host=file&user=u&dbname=db");

    let (_file, sources) = with_file(file, &[("DATABASE_URL", "postgres://u@platform/db")]);
    assert_eq!(
        database_url(&load(&sources, Needs::Database).expect("good")),
        "postgres:///?host=platform&user=u&dbname=db"
    );
    let both = [("DATABASE_URL", "postgres://u@platform/db"), ("CHATSYNC__DATABASE__URL", "postgres://u@own/db")];
    let (_file, sources) = with_file(file, &both);
    assert_eq!(database_url(&load(&sources, Needs::Database).expect("good")), "postgres:///?host=own&user=u&dbname=db");
}

#[test]
fn variables_with_single_underscores_or_in_lower_case_are_reported_with_their_right_names() {
    let variables = [
        ("CHATSYNC_DATABASE_URL", "postgres://me:hush-hush@host/db"),
        ("CHATSYNC_AUTH__CLIENT_ID", "me"),
        ("CHATSYNC_QUEUE_READABLE_WINDOW", "24h"),
        ("CHATSYNC_LOG_LEVEL", ""),
        ("chatsync__database__url", "postgres://me:hush-hush@host/db"),
        ("Chatsync__Queue__Readable_Window", "24h"),
        ("chatsync_log_level", "debug"),
        ("chatsync__no__such_key", "x"),
    ];
    let problems = load(&environment(&variables), Needs::Database).expect_err("not read");
    let reported: Vec<_> = problems.0.iter().map(|problem| (problem.origin.as_str(), problem.hint.as_str())).collect();
    let expected = [
        ("CHATSYNC_DATABASE_URL", "write CHATSYNC__DATABASE__URL"),
        ("CHATSYNC_AUTH__CLIENT_ID", "write CHATSYNC__AUTH__CLIENT_ID"),
        ("CHATSYNC_QUEUE_READABLE_WINDOW", "write CHATSYNC__QUEUE__READABLE_WINDOW"),
        ("chatsync__database__url", "write CHATSYNC__DATABASE__URL"),
        ("Chatsync__Queue__Readable_Window", "write CHATSYNC__QUEUE__READABLE_WINDOW"),
        ("chatsync_log_level", "write CHATSYNC__LOG__LEVEL"),
    ];
    assert_eq!(reported, expected);
    assert!(!problems.to_string().contains("hush-hush"));
    // Every key, so that none collides with a variable of Kubernetes.
    let kubernetes = [
        "CHATSYNC_PORT",
        "CHATSYNC_SERVICE_HOST",
        "CHATSYNC_SERVICE_PORT",
        "CHATSYNC_SERVICE_PORT_ADMIN",
        "CHATSYNC_PORT_8080_TCP",
        "CHATSYNC_PORT_8080_TCP_ADDR",
        "CHATSYNC_PORT_8080_TCP_PORT",
        "CHATSYNC_PORT_8080_TCP_PROTO",
        "CHATSYNC_DATABASE_SERVICE_HOST",
        "CHATSYNC_API_PORT",
        "CHATSYNC_HOME",
        "CHATSYNC_",
    ];
    load(&environment(&kubernetes.map(|name| (name, "tcp://10.0.0.1:8080"))), Needs::Database).expect("no settings");
}

#[test]
fn a_file_is_looked_for_in_the_directories_of_developer_user_and_machine() {
    let places = |variables: &[(&str, &str)]| {
        let files = usual_files(&environment(variables).environment);
        files.iter().map(|file| file.display().to_string()).collect::<Vec<_>>().join(" ")
    };
    let (local, machine) = ("config/local.toml", "/etc/chatsync/chatsync.toml");
    let home = [("HOME", "/home/me")];
    assert_eq!(places(&home), format!("{local} /home/me/.config/chatsync/chatsync.toml {machine}"));
    let xdg = [("HOME", "/home/me"), ("XDG_CONFIG_HOME", "/cfg")];
    assert_eq!(places(&xdg), format!("{local} /cfg/chatsync/chatsync.toml {machine}"));
    let relative = [("HOME", "/home/me"), ("XDG_CONFIG_HOME", "cfg")];
    assert_eq!(places(&relative), places(&home));
    assert_eq!(places(&[("XDG_CONFIG_HOME", "")]), format!("{local} {machine}"));
}

#[test]
fn empty_variables_count_as_unset() {
    let empty = [
        ("CHATSYNC__DATABASE__URL", ""),
        ("DATABASE_URL", ""),
        ("CHATSYNC__API__TIMEOUT", ""),
        ("CHATSYNC__AUTH__MODE", ""),
        ("CHATSYNC__QUEUE__RETENTION", ""),
        ("CHATSYNC__NO__SUCH_KEY", ""),
    ];
    let (_file, sources) = with_file("[api]\ntimeout = \"9s\"\n", &empty);
    let settings = load(&sources, Needs::Database).expect("good");
    assert_eq!(database_url(&settings), "embedded");
    assert_eq!(settings.api.timeout, Duration::from_secs(9));
}

#[test]
fn orders_are_kept_for_ever_or_as_long_as_the_api_returns_them() {
    let retention = |text| {
        let settings = load(&environment(&[("CHATSYNC__QUEUE__RETENTION", text)]), Needs::Database);
        settings.map(|settings| settings.queue.retention).map_err(|problems| problems.0[0].key.clone())
    };
    assert_eq!(load(&Sources::built_in(), Needs::Database).expect("good").queue.retention, None);
    assert_eq!(retention("0s"), Ok(None));
    assert_eq!(retention("24h"), Ok(Some(Duration::from_hours(24))));
    for wrong in ["23h", "1", "-1d"] {
        assert_eq!(retention(wrong), Err("queue.retention".to_owned()), "{wrong}");
    }
}

#[test]
fn all_problems_are_reported_together_with_key_origin_and_hint() {
    let file = "[api]\nbase_ulr = \"x\"\ntimeout = 5\n[queue]\nrefresh_after = \"30h\"\n[colour]\nred = 1\n";
    let variables = [
        ("CHATSYNC__SCHEDULE__CRON", "every day"),
        ("CHATSYNC__API__BASE_URL", "http://example.com"),
        ("CHATSYNC__PACE__MAX_IN_FLIGHT", "0"),
        ("CHATSYNC__LOG__FORMAT", "xml"),
    ];
    let (file, sources) = with_file(file, &variables);
    let problems = load(&sources, Needs::Credentials).expect_err("bad");
    let path = file.path().display().to_string();
    let find = |key: &str| problems.0.iter().find(|problem| problem.key == key).unwrap_or_else(|| panic!("{key}"));
    assert_eq!(find("api.base_ulr").hint, "did you mean api.base_url?");
    assert_eq!(find("api.base_ulr").origin, path);
    assert_eq!(find("colour.red").origin, path);
    assert_eq!(find("api.timeout").origin, path);
    assert_eq!(find("queue.refresh_after").origin, path);
    assert_eq!(find("schedule.cron").origin, "CHATSYNC__SCHEDULE__CRON");
    assert_eq!(find("api.base_url").origin, "CHATSYNC__API__BASE_URL");
    assert_eq!(find("pace.max_in_flight").what, "is out of range");
    assert_eq!(find("log.format").hint, "write text or json");
    assert_eq!(find("auth.client_id").what, "is missing");
    assert_eq!(problems.0.len(), 10);
}

#[test]
fn plain_http_is_allowed_for_loopback_or_on_request() {
    let url = |url: &str, allow: &str| {
        let variables = [("CHATSYNC__API__BASE_URL", url), ("CHATSYNC__API__ALLOW_INSECURE_HTTP", allow)];
        load(&environment(&variables), Needs::Database).map(|settings| settings.api.base_url.to_string())
    };
    for good in ["http://127.0.0.1:9/", "http://[::1]/x", "http://localhost:8080/", "https://connect.example/"] {
        assert_eq!(url(good, "false").as_deref(), Ok(good));
    }
    assert!(url("http://10.0.0.1/", "false").is_err());
    assert!(url("http://localhost.example.com/", "false").is_err());
    assert!(url("http://10.0.0.1/", "true").is_ok());
    for bad in ["ftp://127.0.0.1/", "connect.example", "https://u:p@host/", "https://host/?a=b"] {
        assert!(url(bad, "true").is_err(), "{bad}");
    }
}

#[test]
fn secrets_come_from_files_and_are_never_shown() {
    let mut secret = tempfile::NamedTempFile::new().expect("a file");
    writeln!(secret, "hush-hush").expect("written");
    let path = secret.path().display().to_string();
    let variables = [("CHATSYNC__AUTH__CLIENT_ID", "me"), ("CHATSYNC__AUTH__CLIENT_SECRET_FILE", path.as_str())];
    let settings = load(&environment(&variables), Needs::Credentials).expect("good");
    let Some(Auth::UserAssertion(credentials)) = &settings.auth else { panic!("wrong mode") };
    assert_eq!(credentials.client_secret.get().expose_secret(), "hush-hush");
    assert!(!format!("{settings:?}").contains("hush-hush"));

    let bad = [("CHATSYNC__DATABASE__URL", "mysql://me:hush-hush@host/db"), ("CHATSYNC__AUTH__TOKEN", "hush-hush")];
    let problems = load(&environment(&bad), Needs::Credentials).expect_err("bad");
    assert!(!format!("{problems} {problems:?}").contains("hush-hush"));
    let (_file, empty) = with_file("[database]\nurl = \"\"\n", &[]);
    assert_eq!(load(&empty, Needs::Database).expect_err("empty").0[0].what, "is missing");
    let missing = [("CHATSYNC__AUTH__CLIENT_SECRET_FILE", "/nowhere/at/all")];
    assert!(load(&environment(&missing), Needs::Database).is_err());
}

#[test]
fn durations_are_checked() {
    for (text, expected) in [("500ms", Some(500)), ("7d", Some(604_800_000)), ("0s", None), ("5", None), ("s", None)] {
        let settings = load(&environment(&[("CHATSYNC__API__TIMEOUT", text)]), Needs::Database);
        assert_eq!(settings.ok().map(|settings| settings.api.timeout.as_millis()), expected, "{text}");
    }
    assert!(load(&environment(&[("CHATSYNC__API__TIMEOUT", "99999999999999999999d")]), Needs::Database).is_err());
    assert!(load(&environment(&[("CHATSYNC__API__TIMEOUT", "40000d")]), Needs::Database).is_err());
}

#[test]
fn a_broken_file_is_named_without_quoting_it() {
    let (file, sources) = with_file("[auth]\nclient_secret = \"hush-hush\noops", &[]);
    let problems = load(&sources, Needs::Database).expect_err("bad").to_string();
    assert!(problems.contains(&file.path().display().to_string()), "{problems}");
    assert!(!problems.contains("hush-hush"), "{problems}");
}
