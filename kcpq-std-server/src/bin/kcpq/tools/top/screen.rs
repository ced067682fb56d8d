//! A terminal: draws looks, and does what keys say.

use std::io;
use std::thread;
use std::time::Duration;

use async_io::Timer;
use futures_lite::future::or;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use ratatui::layout::{Alignment, Constraint, Layout};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span, Text};
use ratatui::widgets::{Cell, Row, Table};
use ratatui::{DefaultTerminal, Frame};
use serde_json::Value;
use smol::channel::{Receiver, bounded};

use super::look::{COLUMNS, Look, fitting, is_text};
use super::{NEW_AFTER, Page, Sort, Top};
use crate::Failure;

/// What there is to do.
const HELP: &str = "q quit  s sort  up/down, page up/down  p pause";

/// What is on the screen, and what is wanted there.
#[derive(Debug)]
struct View {
    page: Page,
    look: Look,
    /// Why there is no newer one.
    trouble: Option<String>,
    paused: bool,
}

/// What comes next.
enum Next {
    Key(KeyEvent),
    /// The screen has another size.
    Redraw,
    /// It is time for another look, or another one is wanted.
    Look,
    /// There is no terminal any more.
    Gone,
}

/// Gives the terminal back as it was, however this ends; a panic does so before its message.
struct Restore;

impl Drop for Restore {
    fn drop(&mut self) {
        ratatui::restore();
    }
}

/// Shows looks until somebody quits.
pub(super) async fn run(top: &Top) -> Result<(), Failure> {
    let page = Page { sort: top.sort, offset: 0, limit: 200 };
    // Before the screen is taken, so that what is wrong stays to be read.
    let (mut before, connz) = top.ask(page).await?;
    let mut view = View { page, look: Look::new(None, &before, &connz), trouble: None, paused: false };
    let mut terminal = ratatui::try_init()?;
    let _restore = Restore;
    let keys = keys()?;
    // The second look has rates: it does not wait for the whole interval.
    let mut wait = NEW_AFTER;
    loop {
        view.page.limit = rows_of(&terminal)?;
        terminal.draw(|frame| view.draw(frame))?;
        match next(&keys, (!view.paused).then_some(wait)).await {
            Next::Key(key) if quits(key) => return Ok(()),
            Next::Gone => return Ok(()),
            Next::Redraw => {}
            Next::Key(key) if !view.press(key.code) => {}
            Next::Key(_) | Next::Look => {
                wait = top.interval;
                view.look_again(top, &mut before).await;
            }
        }
    }
}

/// Keys, read in a thread of their own: it ends with the program.
fn keys() -> io::Result<Receiver<Event>> {
    let (send, keys) = bounded(16);
    let read = move || {
        while let Ok(event) = event::read() {
            if send.send_blocking(event).is_err() {
                return;
            }
        }
    };
    thread::Builder::new().name("keys".into()).spawn(read)?;
    Ok(keys)
}

async fn next(keys: &Receiver<Event>, wait: Option<Duration>) -> Next {
    let key = async {
        match keys.recv().await {
            Ok(Event::Key(key)) if key.kind != KeyEventKind::Release => Next::Key(key),
            Ok(_) => Next::Redraw,
            Err(_) => Next::Gone,
        }
    };
    let look = async {
        match wait {
            Some(wait) => drop(Timer::after(wait).await),
            None => std::future::pending().await,
        }
        Next::Look
    };
    or(key, look).await
}

fn quits(key: KeyEvent) -> bool {
    let control = key.modifiers.contains(KeyModifiers::CONTROL);
    matches!((key.code, control), (KeyCode::Char('q') | KeyCode::Esc, false) | (KeyCode::Char('c' | 'd'), true))
}

/// How many sessions have room.
fn rows_of(terminal: &DefaultTerminal) -> io::Result<u16> {
    Ok(terminal.size()?.height.clamp(1, 1024))
}

impl View {
    /// True if that needs another look.
    fn press(&mut self, key: KeyCode) -> bool {
        let before = self.page;
        let step = usize::from(self.page.limit.saturating_sub(10).max(1));
        let last = self.look.total.saturating_sub(1);
        match key {
            KeyCode::Char('s') => {
                let at = Sort::ALL.iter().position(|sort| *sort == self.page.sort).unwrap_or(0);
                self.page.sort = Sort::ALL[(at + 1) % Sort::ALL.len()];
                self.page.offset = 0;
            }
            KeyCode::Char('p') => {
                self.paused = !self.paused;
                return !self.paused;
            }
            KeyCode::Down | KeyCode::Char('j') => self.page.offset = (self.page.offset + 1).min(last),
            KeyCode::Up | KeyCode::Char('k') => self.page.offset = self.page.offset.saturating_sub(1),
            KeyCode::PageDown | KeyCode::Char(' ') => self.page.offset = (self.page.offset + step).min(last),
            KeyCode::PageUp => self.page.offset = self.page.offset.saturating_sub(step),
            KeyCode::Home => self.page.offset = 0,
            _ => {}
        }
        self.page != before
    }

    async fn look_again(&mut self, top: &Top, before: &mut Value) {
        match top.ask(self.page).await {
            Ok((varz, connz)) => {
                // The same moment has no rates: the last ones stay.
                if varz["now"] == before["now"] {
                    let rows = Look::new(None, &varz, &connz);
                    (self.look.rows, self.look.total) = (rows.rows, rows.total);
                } else {
                    self.look = Look::new(Some(before), &varz, &connz);
                    *before = varz;
                }
                self.trouble = None;
                self.page.offset = self.page.offset.min(self.look.total.saturating_sub(1));
            }
            Err(Failure::Error(why) | Failure::Timeout(why)) => self.trouble = Some(why),
        }
    }

    fn draw(&self, frame: &mut Frame<'_>) {
        let dim = Style::new().add_modifier(Modifier::DIM);
        let bold = Style::new().add_modifier(Modifier::BOLD);
        let width = frame.area().width;
        let figure = |(name, value): &(&str, String)| {
            vec![Span::styled(format!("{name} "), dim), Span::styled(value.clone(), bold), Span::raw("   ")]
        };
        let figures = packed(self.look.figures.iter().map(figure), width);
        let dropped = |drop: &String| vec![Span::styled(format!("dropped: {drop}   "), Style::new().fg(Color::Red))];
        let drops = packed(self.look.drops.iter().map(dropped), width);
        let heights = [1, figures.len() as u16, drops.len() as u16, 1];
        let [server, of_figures, of_drops, _, table, foot] = Layout::vertical([
            Constraint::Length(heights[0]),
            Constraint::Length(heights[1]),
            Constraint::Length(heights[2]),
            Constraint::Length(heights[3]),
            Constraint::Min(0),
            Constraint::Length(1),
        ])
        .areas(frame.area());
        frame.render_widget(Span::styled(&*self.look.server, bold), server);
        frame.render_widget(Text::from(figures), of_figures);
        frame.render_widget(Text::from(drops), of_drops);
        frame.render_widget(self.table(width), table);
        frame.render_widget(self.foot(), foot);
    }

    fn table(&self, width: u16) -> Table<'_> {
        let (shown, first) = fitting(width);
        let cell = |index: usize, text: String| {
            let alignment = if is_text(index) { Alignment::Left } else { Alignment::Right };
            Cell::from(Text::from(text).alignment(alignment))
        };
        let titles = shown.iter().map(|index| {
            let column = COLUMNS[*index];
            let sorts = column.sort == Some(self.page.sort);
            let style =
                if sorts { Style::new().add_modifier(Modifier::BOLD | Modifier::UNDERLINED) } else { Style::new() };
            cell(*index, column.title.into()).style(style)
        });
        let rows = self.look.rows.iter().map(|row| {
            let is_behind = row[9] != "0";
            let style = if is_behind { Style::new().fg(Color::Red) } else { Style::new() };
            Row::new(shown.iter().map(|index| cell(*index, row[*index].clone()))).style(style)
        });
        let widths = shown.iter().map(|index| if *index == 0 { first } else { COLUMNS[*index].width });
        Table::new(rows, widths.map(Constraint::Length))
            .header(Row::new(titles).style(Style::new().add_modifier(Modifier::REVERSED)))
            .column_spacing(1)
    }

    fn foot(&self) -> Line<'_> {
        if let Some(trouble) = &self.trouble {
            return Line::styled(&**trouble, Style::new().fg(Color::Red));
        }
        let paused = if self.paused { "PAUSED  " } else { "" };
        let from = self.page.offset;
        let shown = format!("{paused}{} sessions, from {}  ", self.look.total, from + usize::from(self.look.total > 0));
        Line::from(vec![Span::raw(shown), Span::styled(HELP, Style::new().add_modifier(Modifier::DIM))])
    }
}

/// Things one behind the other, in as many lines as that takes; none goes over two.
fn packed<'s>(things: impl Iterator<Item = Vec<Span<'s>>>, width: u16) -> Vec<Line<'s>> {
    let mut lines: Vec<Line<'s>> = Vec::new();
    for thing in things {
        let needed: usize = thing.iter().map(Span::width).sum();
        match lines.last_mut() {
            Some(line) if line.width() + needed <= usize::from(width) => line.extend(thing),
            _ => lines.push(Line::from(thing)),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;
    use serde_json::json;

    fn view() -> View {
        let session = |name: &str, slow: u64| {
            json!({ "name": name, "ip": "192.0.2.1", "port": 7, "kind": "native", "rtt_seconds": 0.0123, "loss": 0.01,
                    "out_msgs_rate": 300.0, "pending_bytes": 0, "uptime_seconds": 61.0, "dropped": { "slow": slow } })
        };
        let varz = json!({ "server_name": "garden", "version": "1", "listen": ["127.0.0.1:4000"], "connections": 2,
                           "uptime_seconds": 90.0, "dropped": { "slow": 4 } });
        let connz = json!({ "total": 2, "connections": [session("thermometer", 0), session("\u{1b}display", 4)] });
        let page = Page { sort: Sort::Rtt, offset: 0, limit: 24 };
        View { page, look: Look::new(None, &varz, &connz), trouble: None, paused: false }
    }

    fn drawn(view: &View, width: u16, height: u16) -> String {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| view.draw(frame)).unwrap();
        terminal.backend().to_string()
    }

    #[test]
    fn a_screen_of_any_size_shows_what_it_can() {
        let mut view = view();
        let wide = drawn(&view, 120, 20);
        for part in [
            "garden 1 on 127.0.0.1:4000",
            "thermometer",
            "192.0.2.1:7",
            "12.3 ms",
            "\\u{1b}display",
            "4 slow",
            "q quit",
        ] {
            assert!(wide.contains(part), "{part}\n{wide}");
        }
        let narrow = drawn(&view, 40, 20);
        assert!(narrow.contains("thermometer") && narrow.contains("TO/S") && !narrow.contains("192.0.2.1"), "{narrow}");
        for (width, height) in [(1, 1), (3, 50), (500, 2), (20, 5)] {
            drawn(&view, width, height);
        }
        view.trouble = Some("nobody there".into());
        assert!(drawn(&view, 80, 10).contains("nobody there"));
    }

    #[test]
    fn keys_sort_turn_pages_pause_and_quit() {
        let mut view = view();
        assert!(view.press(KeyCode::Char('s')) && view.page.sort == Sort::Loss);
        assert!(view.press(KeyCode::Down) && view.page.offset == 1);
        assert!(!view.press(KeyCode::PageDown) && view.page.offset == 1);
        assert!(view.press(KeyCode::Home) && !view.press(KeyCode::Up) && !view.press(KeyCode::Char('x')));
        assert!(!view.press(KeyCode::Char('p')) && view.paused);
        assert!(view.press(KeyCode::Char('p')) && !view.paused);
        let key = |code, modifiers| quits(KeyEvent::new(code, modifiers));
        assert!(key(KeyCode::Char('q'), KeyModifiers::NONE) && key(KeyCode::Char('c'), KeyModifiers::CONTROL));
        assert!(!key(KeyCode::Char('c'), KeyModifiers::NONE));
    }
}
