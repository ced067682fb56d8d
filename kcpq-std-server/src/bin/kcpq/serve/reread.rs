//! Reading the configuration again while the server runs: what can change does, and the log says what.

use std::ffi::OsString;

use kcpq_std_server::Server;
use kcpq_std_server::access::Access;

use super::logging::SetLevel;
use super::settings::{Settings, describe};
use crate::settings;

/// What was read last, and how to read it again.
pub(super) struct Reread {
    pub(super) arguments: Vec<OsString>,
    pub(super) settings: Settings,
    pub(super) set_level: SetLevel,
}

impl Reread {
    /// Reads the file again. What is wrong with it changes nothing.
    pub(super) fn run(&mut self, server: &Server) {
        let Some(path) = self.settings.serve.config.clone() else {
            tracing::info!("SIGHUP: no configuration file to read again (--config)");
            return;
        };
        let file = path.display();
        let fresh = match Settings::load(&self.arguments, Some(&path)) {
            Ok(fresh) => fresh,
            Err(error) => {
                tracing::error!(%file, "SIGHUP: {error}; everything stays as it was");
                return;
            }
        };
        if fresh.access != self.settings.access {
            if let Err(error) = server.set_access(fresh.access.as_ref()) {
                tracing::error!(%file, "SIGHUP: {error}; everything stays as it was");
                return;
            }
            tell_changes(self.settings.access.as_ref(), fresh.access.as_ref());
        }
        let later = settings::change(&mut self.settings.values, fresh.values);
        (self.set_level)(fresh.serve.log_level);
        tracing::info!(%file, later, "SIGHUP: configuration read again");
        self.settings.access = fresh.access;
    }
}

/// What of who may do what is different.
fn tell_changes(old: Option<&Access>, new: Option<&Access>) {
    let lines = |access: Option<&Access>| access.map_or_else(|| vec!["everybody may do everything".into()], describe);
    let (old, new) = (lines(old), lines(new));
    for line in old.iter().filter(|line| !new.contains(line)) {
        tracing::info!("no more: {line}");
    }
    for line in new.iter().filter(|line| !old.contains(line)) {
        tracing::info!("from now on: {line}");
    }
}
