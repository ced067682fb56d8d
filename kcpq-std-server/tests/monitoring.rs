//! The dashboard for Grafana, as far as that can be said without it: by its JSON model of dashboards, and by promtool for
//! what it asks Prometheus. That the metrics exist is seen to beside a server (tests/http.rs).

mod support;

use std::collections::HashSet;
use std::process::Command;

use serde_json::{Value, json};
use support::folder::Folder;

/// Columns of Grafana's grid.
const COLUMNS: u64 = 24;

fn dashboard() -> Value {
    serde_json::from_str(include_str!("monitoring/grafana.json")).unwrap()
}

fn list<'v>(value: &'v Value, name: &str) -> &'v [Value] {
    value[name].as_array().unwrap_or_else(|| panic!("no list '{name}' in {value}"))
}

fn text<'v>(value: &'v Value, name: &str) -> &'v str {
    value[name].as_str().filter(|text| !text.is_empty()).unwrap_or_else(|| panic!("no text '{name}' in {value}"))
}

#[test]
fn the_dashboard_has_what_grafana_reads() {
    let dashboard = dashboard();
    // From 16 on panels lie in a grid; before that no importer of today understands them.
    assert!(dashboard["schemaVersion"].as_u64().is_some_and(|version| version >= 16));
    assert!(!text(&dashboard, "title").is_empty() && text(&dashboard, "uid").len() <= 40);
    assert!(dashboard["time"]["from"].is_string() && dashboard["time"]["to"].is_string());

    let variables: HashSet<&str> = list(&dashboard["templating"], "list").iter().map(|it| text(it, "name")).collect();
    let panels = list(&dashboard, "panels");
    assert!(!panels.is_empty());
    let (mut ids, mut taken) = (HashSet::new(), HashSet::new());
    for panel in panels {
        let title = text(panel, "title");
        assert!(!text(panel, "type").is_empty());
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "{title}: its number is another one's");
        let [x, y, w, h] = ["x", "y", "w", "h"].map(|side| panel["gridPos"][side].as_u64().unwrap());
        assert!(w > 0 && h > 0 && x + w <= COLUMNS, "{title} lies outside of the grid");
        for place in (x..x + w).flat_map(|x| (y..y + h).map(move |y| (x, y))) {
            assert!(taken.insert(place), "{title} lies on another one");
        }
        assert!(panel["fieldConfig"]["defaults"].is_object() && panel["options"].is_object(), "{title}");
        let mut refs = HashSet::new();
        for target in list(panel, "targets") {
            assert!(refs.insert(text(target, "refId")), "{title}: two queries have one name");
            for source in [&panel["datasource"], &target["datasource"]] {
                assert_eq!(source, &json!({ "type": "prometheus", "uid": "${datasource}" }), "{title}");
            }
        }
        assert!(!refs.is_empty(), "{title} asks for nothing");
        for (at, _) in panel.to_string().match_indices('$') {
            let panel = panel.to_string();
            let rest = panel[at + 1..].trim_start_matches('{');
            let name = rest.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).next().unwrap_or_default();
            assert!(name.starts_with("__") || variables.contains(name), "{title}: nobody says what ${name} is");
        }
    }
}

#[test]
fn what_the_dashboard_asks_prometheus_is_a_question() {
    if Command::new("promtool").arg("--version").output().is_err() {
        eprintln!("skipped: promtool is not installed");
        return;
    }
    let mut rules = Vec::new();
    for panel in list(&dashboard(), "panels") {
        for target in list(panel, "targets") {
            // As Grafana puts in what it knows.
            let expr = text(target, "expr").replace("$__rate_interval", "5m").replace("$instance", ".*");
            assert!(!expr.contains('$'), "{expr}");
            rules.push(json!({ "record": format!("asked:{}", rules.len()), "expr": expr }));
        }
    }
    let folder = Folder::new("dashboard");
    // JSON is YAML.
    let file = folder.write("rules.yml", &json!({ "groups": [{ "name": "asked", "rules": rules }] }).to_string());
    let checked = Command::new("promtool").args(["check", "rules"]).arg(file).output().unwrap();
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
}
