//! What is printed and typed: tables that fit the terminal, JSON, errors, questions.
//!
//! Words that come from networks are cleaned of control characters before they reach a terminal: a message must not be
//! able to paint over it.

use super::{CliError, Exit, Result};
use comfy_table::{Attribute, Cell, Color, ContentArrangement, Table, presets};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;
use serde_json::Value;
use std::fmt;
use std::io::{self, BufRead, IsTerminal, Write};
use std::time::Duration;

/// Which of the streams are a person's.
#[derive(Clone, Copy, Debug, Default)]
pub struct Terminal {
    /// Standard input.
    pub input: bool,
    /// Standard error.
    pub err: bool,
    /// The width of standard output, when it is a terminal.
    pub width: Option<u16>,
}

/// The streams of a command.
pub struct Ui {
    /// For what was asked for.
    pub out: Box<dyn Write>,
    /// For everything else.
    pub err: Box<dyn Write>,
    /// What is typed.
    pub input: Box<dyn BufRead>,
    /// Which of them are a person's.
    pub terminal: Terminal,
    /// Whether colours are wanted at all.
    pub may_colour: bool,
    /// Whether to print in colour.
    pub colour: bool,
    /// Whether to print JSON.
    pub json: bool,
}

impl fmt::Debug for Ui {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ui").field("terminal", &self.terminal).field("json", &self.json).finish_non_exhaustive()
    }
}

impl Ui {
    /// The process's own streams.
    pub fn of_this_process() -> Self {
        let shown = io::stdout().is_terminal();
        Self {
            out: Box::new(io::stdout()),
            err: Box::new(io::stderr()),
            input: Box::new(io::BufReader::new(io::stdin())),
            terminal: Terminal {
                input: io::stdin().is_terminal(),
                err: io::stderr().is_terminal(),
                width: if shown { Table::new().width() } else { None },
            },
            may_colour: true,
            colour: shown,
            json: false,
        }
    }

    /// Prints JSON, a value at a time.
    pub fn json(&mut self, value: &impl Serialize) -> Result<()> {
        let text = serde_json::to_string_pretty(value).map_err(io::Error::from)?;
        Ok(writeln!(self.out, "{text}")?)
    }

    /// Prints JSON in one line.
    pub fn json_line(&mut self, value: &impl Serialize) -> Result<()> {
        let text = serde_json::to_string(value).map_err(io::Error::from)?;
        writeln!(self.out, "{text}")?;
        Ok(self.out.flush()?)
    }

    /// Prints a line.
    pub fn line(&mut self, text: &str) -> Result<()> {
        Ok(writeln!(self.out, "{text}")?)
    }

    /// Says something beside the answer.
    pub fn note(&mut self, text: &str) -> Result<()> {
        Ok(writeln!(self.err, "{text}")?)
    }

    /// Prints rows under a header; `none` when there are none.
    pub fn table(&mut self, header: &[&str], rows: Vec<Vec<String>>, none: &str) -> Result<()> {
        if rows.is_empty() {
            return self.note(none);
        }
        let mut table = self.empty_table();
        table.set_header(header.iter().map(|word| self.bold(word)));
        for row in rows {
            table.add_row(row.into_iter().map(|text| self.cell(&text)));
        }
        self.print(table)
    }

    /// Prints what the API listed: as it came for programs, and else as [`table`](Self::table), a row each.
    pub fn list(
        &mut self,
        items: &[Value],
        header: &[&str],
        none: &str,
        row: impl Fn(&Value) -> Vec<String>,
    ) -> Result<()> {
        if self.json { self.json(&items) } else { self.table(header, items.iter().map(row).collect(), none) }
    }

    /// Prints names with their values, leaving out what is empty.
    pub fn pairs(&mut self, pairs: &[(&str, String)]) -> Result<()> {
        let mut table = self.empty_table();
        for (name, value) in pairs.iter().filter(|(_, value)| !value.is_empty()) {
            table.add_row([self.bold(name), self.cell(value)]);
        }
        self.print(table)
    }

    fn print(&mut self, mut table: Table) -> Result<()> {
        for column in table.column_iter_mut() {
            column.set_padding((0, 2));
        }
        Ok(writeln!(self.out, "{}", table.trim_fmt())?)
    }

    fn empty_table(&self) -> Table {
        let mut table = Table::new();
        table.load_style(presets::NOTHING);
        match self.terminal.width {
            Some(width) => table.set_width(width).set_content_arrangement(ContentArrangement::Dynamic),
            None => table.set_content_arrangement(ContentArrangement::Disabled),
        };
        if self.colour {
            table.enforce_styling();
        } else {
            table.force_no_tty();
        }
        table
    }

    fn bold(&self, text: &str) -> Cell {
        Cell::new(text).add_attribute(Attribute::Bold)
    }

    fn cell(&self, text: &str) -> Cell {
        let cell = Cell::new(clean(text));
        match text {
            "connected" | "running" | "loaded" | "healthy" | "ok" => cell.fg(Color::Green),
            "connecting" | "waiting_for_login" | "degraded" | "pending" => cell.fg(Color::Yellow),
            "disconnected" | "logged_out" | "failed" | "unhealthy" => cell.fg(Color::Red),
            _ => cell,
        }
    }

    /// Says why a command ended, and gives its exit code.
    pub fn fail(&mut self, error: &CliError) -> u8 {
        // Nobody is left to tell when standard error is gone.
        if !error.message.is_empty() {
            let _ = writeln!(self.err, "error: {}", clean(&error.message));
        }
        if let Some(help) = &error.help {
            let _ = writeln!(self.err, "help: {}", clean(help));
        }
        error.exit as u8
    }

    /// Prints what clap has to say: help that was asked for, or why the command line is wrong.
    pub fn usage(&mut self, error: &clap::Error) -> u8 {
        let text = error.render().to_string();
        if error.use_stderr() {
            let _ = write!(self.err, "{text}");
            Exit::Usage as u8
        } else {
            let _ = write!(self.out, "{text}");
            Exit::Done as u8
        }
    }

    /// Asks for a line. Nothing is shown while a secret is typed.
    pub fn ask(&mut self, question: &str, secret: bool) -> Result<String> {
        let question = clean(question);
        if secret && self.terminal.input {
            return Ok(rpassword::prompt_password(format!("{question}: "))?);
        }
        if self.terminal.input {
            write!(self.err, "{question}: ")?;
            self.err.flush()?;
        }
        let mut line = String::new();
        if self.input.read_line(&mut line)? == 0 {
            return Err(CliError::usage(format!("nothing was entered for {question:?}: standard input is at its end")));
        }
        Ok(line.trim_end_matches(['\r', '\n']).to_owned())
    }

    /// Asks whether to go on, or ends with `flag` as the advice when nobody can be asked.
    pub fn confirm(&mut self, question: &str, flag: &str) -> Result<()> {
        if !self.terminal.input {
            return Err(CliError::usage(format!("{question} Nobody can be asked here.")).help(format!("add {flag}")));
        }
        match self.ask(&format!("{question} [y/N]"), false)?.trim() {
            "y" | "Y" | "yes" => Ok(()),
            _ => Err(CliError::failed("left as it is")),
        }
    }

    /// Shows that something is awaited, when a person looks.
    pub fn spinner(&self, text: &str) -> ProgressBar {
        let spinner = ProgressBar::new_spinner().with_message(clean(text));
        if self.terminal.err && !self.json {
            spinner.enable_steady_tick(Duration::from_millis(120));
        } else {
            spinner.set_draw_target(ProgressDrawTarget::hidden());
        }
        spinner
    }

    /// Shows how many chats are done, when a person looks.
    pub fn bar(&self) -> ProgressBar {
        let style = ProgressStyle::with_template("{bar:30} {pos} of {len} chats, {msg}").expect("it is a template");
        let bar = ProgressBar::no_length().with_style(style);
        if !self.terminal.err || self.json {
            bar.set_draw_target(ProgressDrawTarget::hidden());
        }
        bar
    }
}

/// Text without what steers a terminal or turns its direction around.
pub fn clean(text: &str) -> String {
    text.chars()
        .map(|c| match c {
            '\n' | '\t' => ' ',
            '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => '\u{fffd}',
            c if c.is_control() => '\u{fffd}',
            c => c,
        })
        .collect()
}

/// The first `most` characters of a line.
pub fn shorten(text: &str, most: usize) -> String {
    let text = clean(text);
    if text.chars().count() <= most {
        return text;
    }
    text.chars().take(most.saturating_sub(1)).chain(['…']).collect()
}

/// The first of these places (JSON pointers) that holds something, as words.
pub fn pick(value: &Value, pointers: &[&str]) -> String {
    let found = pointers.iter().filter_map(|pointer| value.pointer(pointer)).map(words).find(|text| !text.is_empty());
    found.unwrap_or_default()
}

fn words(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        Value::Bool(true) => "yes".into(),
        Value::Bool(false) => "no".into(),
        Value::Array(items) => items.iter().map(words).collect::<Vec<_>>().join(", "),
        Value::Null | Value::Object(_) => String::new(),
    }
}

/// A time of the API in the time zone of this machine; anything else as it is.
pub fn time(value: &Value, pointers: &[&str]) -> String {
    let text = pick(value, pointers);
    let parsed = match text.parse::<i64>() {
        Ok(millis) => chrono::DateTime::from_timestamp_millis(millis),
        Err(_) => text.parse::<chrono::DateTime<chrono::Utc>>().ok(),
    };
    match parsed {
        Some(time) => time.with_timezone(&chrono::Local).format("%Y-%m-%d %H:%M:%S").to_string(),
        None => text,
    }
}

/// A number of bytes for people.
pub fn size(value: &Value, pointer: &str) -> String {
    value.pointer(pointer).and_then(Value::as_u64).map(size_of).unwrap_or_default()
}

/// A number of bytes, for people.
pub fn size_of(bytes: u64) -> String {
    match bytes {
        0..1024 => format!("{bytes} B"),
        1024..1_048_576 => format!("{} KiB", bytes >> 10),
        1_048_576..1_073_741_824 => format!("{:.1} MiB", bytes as f64 / 1_048_576.0),
        _ => format!("{:.1} GiB", bytes as f64 / 1_073_741_824.0),
    }
}
