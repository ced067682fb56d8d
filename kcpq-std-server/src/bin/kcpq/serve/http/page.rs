//! What a browser shows at `/`: plain files, which are in the program. They ask this server alone for anything.

use hyper::header::{CONTENT_SECURITY_POLICY, HeaderName, HeaderValue, REFERRER_POLICY, VARY};

/// A file of the page.
#[derive(Debug)]
pub(super) struct Part {
    path: &'static str,
    pub(super) content_type: &'static str,
    pub(super) text: &'static str,
}

/// The client for browsers.
pub(super) const MODULE: &str = "/kcpq.js";

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";

/// Types for TypeScript, which no browser reads.
const TYPES: &str = "text/plain; charset=utf-8";

const PARTS: [Part; 16] = [
    Part { path: "/", content_type: HTML, text: include_str!("page/index.html") },
    Part { path: "/style.css", content_type: CSS, text: include_str!("page/style.css") },
    Part { path: "/dashboard.js", content_type: SCRIPT, text: include_str!("page/dashboard.js") },
    Part { path: "/chart.js", content_type: SCRIPT, text: include_str!("page/chart.js") },
    Part { path: "/figures.js", content_type: SCRIPT, text: include_str!("page/figures.js") },
    Part { path: "/format.js", content_type: SCRIPT, text: include_str!("page/format.js") },
    Part { path: "/messages.js", content_type: SCRIPT, text: include_str!("page/messages.js") },
    Part { path: "/table.js", content_type: SCRIPT, text: include_str!("page/table.js") },
    Part { path: "/kcpq.js", content_type: SCRIPT, text: include_str!("page/kcpq.js") },
    Part { path: "/kcpq.d.ts", content_type: TYPES, text: include_str!("page/kcpq.d.ts") },
    Part { path: "/tuned.js", content_type: SCRIPT, text: include_str!("page/tuned.js") },
    Part { path: "/telemetry.html", content_type: HTML, text: include_str!("page/telemetry.html") },
    Part { path: "/telemetry.js", content_type: SCRIPT, text: include_str!("page/telemetry.js") },
    Part { path: "/video.html", content_type: HTML, text: include_str!("page/video.html") },
    Part { path: "/video.js", content_type: SCRIPT, text: include_str!("page/video.js") },
    Part { path: "/icon.svg", content_type: "image/svg+xml", text: include_str!("page/icon.svg") },
];

/// Nothing from elsewhere, nothing within the page that is not a file of it, and in no frame of anybody else.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
    base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The file at a path.
pub(super) fn part(path: &str) -> Option<&'static Part> {
    PARTS.iter().find(|part| part.path == path)
}

/// What a browser is told with it.
pub(super) fn policy() -> [(HeaderName, HeaderValue); 3] {
    [(CONTENT_SECURITY_POLICY, POLICY), (REFERRER_POLICY, "no-referrer"), (VARY, "Accept")]
        .map(|(name, value)| (name, HeaderValue::from_static(value)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_asks_for_nothing_that_is_not_here() {
        for Part { path, text, .. } in &PARTS {
            // The name of SVG's elements is no place.
            let text = text.replace("http://www.w3.org/2000/svg", "");
            for elsewhere in ["http:", "https:", "//cdn", "@import", "style=", "onclick"] {
                assert!(!text.contains(elsewhere), "{path}: {elsewhere}");
            }
        }
        let is_file = |name: &&str| [".js", ".css", ".svg"].iter().any(|end| name.ends_with(end));
        let html = part("/").unwrap().text;
        for name in html.split('"').filter(is_file) {
            assert!(part(&format!("/{name}")).is_some(), "{name}");
        }
    }
}
