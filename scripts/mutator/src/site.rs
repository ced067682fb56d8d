//! Places where mutants go, and how they are written.

use std::ops::Range;

/// A number, and the text that stands there in this mutant.
pub(crate) type Choice = (usize, String);

/// A place in a source.
pub(crate) struct Site {
    pub(crate) range: Range<usize>,
    pub(crate) form: Form,
}

pub(crate) enum Form {
    /// Two operands around an operator; mutants have another one.
    Operator { left: Range<usize>, operator: Range<usize>, right: Range<usize>, choices: Vec<Choice> },
    /// A condition or a negation, in whose place another expression stands.
    Whole(Vec<Choice>),
    /// The body of a function, before which a mutant returns.
    Body(Vec<Choice>),
    /// An arm of a match, which is not there in a mutant: behind its pattern.
    Arm(usize),
    /// The same behind its guard.
    Guard { choices: Vec<Choice>, gone: Option<usize> },
}

/// The text of a range, with all sites in it. They are in the order in which they begin, those that hold others before these.
pub(crate) fn render(source: &str, sites: &[Site], range: Range<usize>) -> String {
    let (mut text, mut at, mut rest) = (String::new(), range.start, sites);
    while let Some((site, behind)) = rest.split_first() {
        let inner = behind.iter().take_while(|inner| inner.range.start < site.range.end).count();
        let (inner, others) = behind.split_at(inner);
        text += &source[at..site.range.start];
        text += &site.render(source, inner);
        (at, rest) = (site.range.end, others);
    }
    text + &source[at..range.end]
}

impl Site {
    fn render(&self, source: &str, inner: &[Self]) -> String {
        let whole = self.range.clone();
        match &self.form {
            Form::Operator { left, operator, right, choices } => {
                let (before, behind) =
                    inner.split_at(inner.partition_point(|inner| inner.range.start < operator.start));
                let operands = |left: &str, operator: &str, right: &str| format!("({left}) {operator} ({right})");
                let plain = |operator: &str| operands(&source[left.clone()], operator, &source[right.clone()]);
                let choices: Vec<_> = choices.iter().map(|(number, operator)| (*number, plain(operator))).collect();
                let left = render(source, before, left.clone());
                let right = render(source, behind, right.clone());
                switch(&choices, &operands(&left, &source[operator.clone()], &right))
            }
            Form::Whole(choices) => switch(choices, &render(source, inner, whole)),
            Form::Body(choices) => {
                let returns: String =
                    choices.iter().map(|(number, text)| format!(" if {}", marked(*number, text))).collect();
                format!("{{{returns}{}", render(source, inner, whole.start + 1..whole.end))
            }
            Form::Arm(number) => format!(" if !{}", is(*number)),
            Form::Guard { choices, gone } => {
                let guard = switch(choices, &render(source, inner, whole));
                gone.map_or_else(|| guard.clone(), |number| format!("!{} && {guard}", is(number)))
            }
        }
    }
}

fn is(number: usize) -> String {
    format!("crate::mutant::is({number})")
}

fn marked(number: usize, text: &str) -> String {
    format!("{} {{ /*{number}(*/ {text} /*){number}*/ }}", is(number))
}

/// An expression, and what stands in its place in each mutant.
fn switch(choices: &[Choice], otherwise: &str) -> String {
    let mutants: String = choices.iter().map(|(number, text)| format!("if {} else ", marked(*number, text))).collect();
    if mutants.is_empty() { format!("({otherwise})") } else { format!("({mutants}{{ {otherwise} }})") }
}
