//! Elasticity expressions: OneFlow's own grammar, with its surprises.
//!
//! ```text
//! expression := '!' expression | term ('&' expression | '|' expression)?      (& and && alike)
//! term       := '(' expression ')' | NAME (> | < | >= | <= | == | !=) NUMBER
//! ```
//! It is right-recursive and knows no precedence: `A && B || C` is `A && (B || C)`, and `!` negates
//! all that follows it. A quoted name is looked up with its quotes, and so is never found. What is
//! missing makes its comparison false.

use std::fmt;

/// A comparison or a combination of two.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Expression {
    Not(Box<Self>),
    And(Box<Self>, Box<Self>),
    Or(Box<Self>, Box<Self>),
    Comparison { name: String, operator: &'static str, number: f64 },
}

/// An expression as last evaluated, in OneFlow's words: `ATT[90.0] > 80`, `ATT[--] > 80`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Evaluation {
    pub holds: bool,
    pub words: String,
}

/// A text that is no expression.
#[derive(Debug, PartialEq, thiserror::Error)]
#[error("not an elasticity expression")]
pub(crate) struct NoExpression;

impl Expression {
    pub fn parse(text: &str) -> Result<Self, NoExpression> {
        let mut rest = text.trim_matches(BLANK);
        let expression = expression(&mut rest)?;
        if rest.is_empty() { Ok(expression) } else { Err(NoExpression) }
    }

    /// Evaluates with means as `mean` gives them; both sides of a combination are always looked at.
    pub fn evaluate(&self, mean: &dyn Fn(&str) -> Option<f64>) -> Evaluation {
        let both = |left: &Self, right: &Self| (left.evaluate(mean), right.evaluate(mean));
        match self {
            Self::Not(inner) => {
                let inner = inner.evaluate(mean);
                Evaluation { holds: !inner.holds, words: format!("!{}", inner.words) }
            }
            Self::And(left, right) => {
                let (left, right) = both(left, right);
                Evaluation {
                    holds: left.holds && right.holds,
                    words: format!("{} && {}", left.words, right.words),
                }
            }
            Self::Or(left, right) => {
                let (left, right) = both(left, right);
                Evaluation {
                    holds: left.holds || right.holds,
                    words: format!("{} || {}", left.words, right.words),
                }
            }
            Self::Comparison { name, operator, number } => {
                let value = mean(&name.to_uppercase());
                let holds = value.is_some_and(|value| compare(value, operator, *number));
                let shown = value.map_or("--".to_owned(), |value| format!("{value:?}"));
                Evaluation { holds, words: format!("{name}[{shown}] {operator} {number}") }
            }
        }
    }
}

impl fmt::Display for Evaluation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.words)
    }
}

/// The mean as OneFlow has it: of the texts' leading numbers (0 if there is none), to two decimals.
pub(crate) fn mean<'a>(texts: impl Iterator<Item = &'a str>) -> Option<f64> {
    let (mut sum, mut count) = (0.0, 0u32);
    for text in texts {
        sum += leading_number(text);
        count += 1;
    }
    (count != 0).then(|| (sum / f64::from(count) * 100.0).round() / 100.0)
}

/// Ruby's `to_f`: as much of the text as is a number.
fn leading_number(text: &str) -> f64 {
    let text = text.trim_start();
    let ends = text.char_indices().map(|(at, character)| at + character.len_utf8());
    let numeric = |text: &&str| text.ends_with(|last: char| last.is_ascii_digit());
    ends.map(|end| &text[..end])
        .filter(numeric)
        .filter_map(|prefix| prefix.parse().ok())
        .next_back()
        .unwrap_or(0.0)
}

/// The grammar's blanks: a line break is not one.
const BLANK: [char; 2] = [' ', '\t'];
const OPERATORS: [&str; 6] = [">=", "<=", "==", "!=", ">", "<"];

fn compare(value: f64, operator: &str, number: f64) -> bool {
    match operator {
        ">=" => value >= number,
        "<=" => value <= number,
        "==" => value == number,
        "!=" => value != number,
        ">" => value > number,
        _ => value < number,
    }
}

fn expression(rest: &mut &str) -> Result<Expression, NoExpression> {
    if take(rest, "!") {
        return Ok(Expression::Not(Box::new(expression(rest)?)));
    }
    let left = term(rest)?;
    if take(rest, "&&") || take(rest, "&") {
        return Ok(Expression::And(Box::new(left), Box::new(expression(rest)?)));
    }
    if take(rest, "||") || take(rest, "|") {
        return Ok(Expression::Or(Box::new(left), Box::new(expression(rest)?)));
    }
    Ok(left)
}

fn term(rest: &mut &str) -> Result<Expression, NoExpression> {
    if take(rest, "(") {
        let inner = expression(rest)?;
        return if take(rest, ")") { Ok(inner) } else { Err(NoExpression) };
    }
    let name = name(rest)?;
    let operator = OPERATORS.into_iter().find(|operator| take(rest, operator)).ok_or(NoExpression)?;
    let length = rest.find(|c: char| !c.is_ascii_digit() && c != '.' && c != '-').unwrap_or(rest.len());
    let (number, tail) = rest.split_at(length);
    // `.5` is refused: a number begins with a digit.
    if !number.trim_start_matches('-').starts_with(|first: char| first.is_ascii_digit()) {
        return Err(NoExpression);
    }
    let number = number.parse().map_err(|_| NoExpression)?;
    *rest = tail.trim_start_matches(BLANK);
    Ok(Expression::Comparison { name, operator, number })
}

fn name(rest: &mut &str) -> Result<String, NoExpression> {
    let length = match rest.strip_prefix('"') {
        Some(quoted) => quoted.find('"').map(|end| end + 2).ok_or(NoExpression)?,
        None => rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len()),
    };
    let (name, tail) = rest.split_at(length);
    if !name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '"') {
        return Err(NoExpression);
    }
    *rest = tail.trim_start_matches(BLANK);
    Ok(name.to_owned())
}

fn take(rest: &mut &str, token: &str) -> bool {
    match rest.strip_prefix(token) {
        Some(tail) => {
            *rest = tail.trim_start_matches(BLANK);
            true
        }
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holds(text: &str) -> Result<bool, NoExpression> {
        let mean = |name: &str| match name {
            "ZERO" => Some(0.0),
            "TEN" => Some(10.0),
            _ => None,
        };
        Ok(Expression::parse(text)?.evaluate(&mean).holds)
    }

    #[test]
    fn surprises_of_the_grammar() {
        for (text, expected) in [
            ("TEN > 9.5", true),
            ("ten >= 10", true),
            ("\"TEN\" > 1", false),
            ("MISSING < 1", false),
            ("!MISSING > 1", true),
            ("ZERO > 1 && TEN > 1 || TEN > 1", false),
            ("(ZERO > 1 && TEN > 1) || TEN > 1", true),
            ("!ZERO > 1 && TEN > 100", true),
            ("(!ZERO > 1) && TEN > 100", false),
        ] {
            assert_eq!(holds(text), Ok(expected), "{text}");
        }
        for text in
            ["", "TEN", "TEN > .5", "TEN > 1 and ZERO > 1", "TEN > 1\n&& ZERO < 1", "9A > 1", "TEN + 1 > 2"]
        {
            assert_eq!(holds(text), Err(NoExpression), "{text:?}");
        }
    }

    #[test]
    fn means_count_text_as_nothing_and_keep_two_decimals() {
        assert_eq!(mean(["90", "high"].into_iter()), Some(45.0));
        assert_eq!(mean(["1", "1", "0"].into_iter()), Some(0.67));
        assert_eq!(mean(["12abc", " 3.5x"].into_iter()), Some(7.75));
        assert_eq!(mean([].into_iter()), None);
    }
}
