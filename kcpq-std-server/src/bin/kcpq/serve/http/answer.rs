//! Which document is asked for, and by whom that may be done.

use std::net::IpAddr;
use std::rc::Rc;

use hyper::body::{Bytes, Incoming};
use hyper::header::{
    ACCEPT, ACCESS_CONTROL_ALLOW_ORIGIN, ALLOW, CACHE_CONTROL, CONTENT_TYPE, HOST, HeaderMap, HeaderValue,
    X_CONTENT_TYPE_OPTIONS,
};
use hyper::{Method, Request, Response, StatusCode};
use serde_json::{Value, json};

use super::body::{self, Body};
use super::crowd::{Crowd, Lease};
use super::look::Looker;
use super::query::Query;
use super::websocket::Visitor;
use super::{connz, keptz, live, messages, metrics, page, streamz, subsz, varz};
use crate::openmetrics;

/// What there is, for people without a browser.
const INDEX: &str = "kcpq\n\n\
    /         in a browser: all of it, live\n\
    /healthz  whether the server works\n\
    /metrics  for Prometheus\n\
    /varz     the server\n\
    /connz    its sessions: offset, limit, sort, order, search, cid, kind, user, name\n\
    /subsz    its patterns: offset, limit, sort, order, search, test\n\
    /keptz    the last values of subjects: offset, limit, sort, order, search, test\n\
    /streamz  what the store behind its backbone keeps\n\
    /live     varz, connz, subsz once a second, as server-sent events: connz.offset, ..., subsz.offset, ...\n\
    /messages what is published, as server-sent events, where the configuration lets it: pattern\n\
    /ws       the protocol itself, over a WebSocket, where the configuration lets it; /kcpq.js speaks it\n";

const TEXT: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";
const EVENTS: &str = "text/event-stream";

/// By which a browser says whose page asks.
const FETCH_SITE: &str = "sec-fetch-site";

/// The answer to a request.
pub(super) fn answer(
    looker: &Rc<Looker>,
    crowd: &Crowd,
    lease: &Rc<Lease>,
    local: bool,
    request: &mut Request<Incoming>,
    comes: impl FnOnce(Visitor),
) -> Response<Body> {
    let upgrade = (request.uri().path() == "/ws").then(|| hyper::upgrade::on(&mut *request));
    if let Some(refused) = refused(request, local) {
        return refused;
    }
    let (uri, headers) = (request.uri(), request.headers());
    let query = Query::new(uri.query().unwrap_or_default());
    match uri.path() {
        "/" if !accepts(headers, "text/html") => respond(StatusCode::OK, TEXT, INDEX),
        "/live" | "/messages"
            if headers.get(FETCH_SITE).is_some_and(|site| site != "same-origin" && site != "none") =>
        {
            // A page of a stranger cannot read it, but would take the places of those who can.
            error(StatusCode::FORBIDDEN, "only for the page that is here")
        }
        "/ws" => match looker.door.as_ref().zip(upgrade) {
            None => error(StatusCode::NOT_FOUND, "the server takes no WebSockets (--http-ws)"),
            Some((door, _)) if crowd.staying() >= door.most => {
                error(StatusCode::SERVICE_UNAVAILABLE, "there are as many WebSockets as may be (--http-ws-max)")
            }
            Some((door, upgrade)) => match door.open(headers, || upgrade) {
                Ok((response, visitor)) => {
                    comes(visitor);
                    response
                }
                Err((status, why)) => error(status, why),
            },
        },
        "/live" => match live::events(Rc::clone(looker), Rc::clone(lease), &query) {
            Ok(events) => {
                crowd.listen(lease);
                response(StatusCode::OK, EVENTS, body::events(events))
            }
            Err(why) => error(StatusCode::BAD_REQUEST, &why),
        },
        "/messages" => match messages::events(Rc::clone(&looker.viewer), Rc::clone(lease), &query) {
            Ok(events) => {
                crowd.listen(lease);
                response(StatusCode::OK, EVENTS, body::events(events))
            }
            Err(why) => error(StatusCode::BAD_REQUEST, &why),
        },
        "/healthz" if looker.is_healthy() => document(&json!({ "status": "ok" })),
        "/healthz" => gone(),
        "/metrics" => match looker.look() {
            Some(look) => metrics(headers, metrics::text(&looker.about, &look)),
            None => gone(),
        },
        "/varz" => looker.look().map_or_else(gone, |look| document(&varz::document(looker, &look))),
        "/connz" => {
            looker.look().map_or_else(gone, |look| document_or(connz::document(looker.about.started, &look, &query)))
        }
        "/keptz" => looker.kept().map_or_else(gone, |values| document_or(keptz::document(&values, &query))),
        "/subsz" => looker.patterns().map_or_else(gone, |patterns| document_or(subsz::document(&patterns, &query))),
        "/streamz" => match looker.view().streams() {
            Some(Ok(streams)) => document(&streamz::document(streams)),
            Some(Err(why)) => error(StatusCode::SERVICE_UNAVAILABLE, &why),
            None => error(StatusCode::NOT_FOUND, "there is no backbone, or its store does not answer"),
        },
        path => match page::part(path) {
            Some(part) => {
                let mut response = respond(StatusCode::OK, part.content_type, part.text);
                response.headers_mut().extend(page::policy());
                if path == page::MODULE {
                    // Pages of others may have it: who they may connect to is decided when they come.
                    response.headers_mut().insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
                }
                response
            }
            None => error(StatusCode::NOT_FOUND, "there is no such document"),
        },
    }
}

/// What nobody is answered, wherever only this machine is to ask: `local`.
pub(crate) fn refused(request: &Request<Incoming>, local: bool) -> Option<Response<Body>> {
    if local && !request.headers().get(HOST).is_none_or(names_this_machine) {
        // A page of a stranger, whose name was made to lead here (DNS rebinding).
        return Some(error(StatusCode::FORBIDDEN, "only by an address of this machine, or as localhost"));
    }
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut response = error(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD");
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return Some(response);
    }
    None
}

/// Metrics, in the format that is asked for.
pub(crate) fn metrics(headers: &HeaderMap, text: String) -> Response<Body> {
    if accepts(headers, "application/openmetrics-text") {
        respond(StatusCode::OK, openmetrics::OPEN_METRICS, text)
    } else {
        respond(StatusCode::OK, openmetrics::CLASSIC, openmetrics::classic(&text))
    }
}

fn accepts(headers: &HeaderMap, content: &str) -> bool {
    let accepted = headers.get(ACCEPT).and_then(|value| value.to_str().ok());
    accepted.is_some_and(|accepted| accepted.contains(content))
}

/// True for `localhost` and for addresses, with or without a port.
pub(super) fn names_this_machine(host: &HeaderValue) -> bool {
    let Ok(host) = host.to_str() else { return false };
    if let Some(rest) = host.strip_prefix('[') {
        return rest.split_once(']').is_some_and(|(ip, _)| ip.parse::<IpAddr>().is_ok());
    }
    let name = host.split_once(':').map_or(host, |(name, _)| name);
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok()
}

fn document_or(made: Result<Value, String>) -> Response<Body> {
    made.map_or_else(|why| error(StatusCode::BAD_REQUEST, &why), |value| document(&value))
}

pub(crate) fn document(value: &Value) -> Response<Body> {
    respond(StatusCode::OK, JSON, format!("{value:#}\n"))
}

pub(crate) fn gone() -> Response<Body> {
    respond(StatusCode::SERVICE_UNAVAILABLE, JSON, format!("{:#}\n", json!({ "status": "a thread does not answer" })))
}

pub(crate) fn error(status: StatusCode, why: &str) -> Response<Body> {
    respond(status, JSON, format!("{:#}\n", json!({ "error": why })))
}

fn respond(status: StatusCode, content: &'static str, text: impl Into<Bytes>) -> Response<Body> {
    response(status, content, body::text(text))
}

fn response(status: StatusCode, content: &'static str, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    for (name, value) in [(CONTENT_TYPE, content), (CACHE_CONTROL, "no-store"), (X_CONTENT_TYPE_OPTIONS, "nosniff")] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_that_nobody_else_can_give_are_this_machines() {
        for (host, is) in [
            ("127.0.0.1:8222", true),
            ("localhost", true),
            ("LOCALHOST:1", true),
            ("[::1]:8222", true),
            ("192.0.2.1", true),
            ("evil.example:8222", false),
            ("localhost.evil.example", false),
            ("[evil]", false),
            ("", false),
        ] {
            assert_eq!(names_this_machine(&HeaderValue::from_static(host)), is, "{host}");
        }
    }
}
