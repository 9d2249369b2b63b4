//! The table of parameters as forms show it: the page of the master, and the router's.

use serde::Serialize;

use super::table::PARAMETERS;

/// One parameter.
#[derive(Debug, Serialize)]
pub struct ParameterInfo {
    /// As in the URL.
    pub name: &'static str,
    /// What it does.
    pub meaning: &'static str,
    /// In the words of the URL; `None` leaves the thing out.
    pub default: Option<&'static str>,
    /// What is accepted, in words.
    pub values: &'static str,
    /// The words to choose from that `values` names; none where something else is taken.
    pub choices: Vec<&'static str>,
    /// Who takes it.
    pub roles: Vec<&'static str>,
}

/// Every parameter, in the order of the documentation.
pub fn parameters() -> Vec<ParameterInfo> {
    let shown = |row: &super::table::Parameter| ParameterInfo {
        name: row.name,
        meaning: row.meaning,
        default: row.default,
        values: row.values,
        choices: choices(row.values),
        roles: row.roles.iter().map(|role| role.name()).collect(),
    };
    PARAMETERS.iter().map(shown).collect()
}

/// `0, 1 or 2` and `auto or an IP address` name words; `a duration such as 5m or 1h` does not.
pub(super) fn choices(values: &'static str) -> Vec<&'static str> {
    let alternatives = || values.split(", ").flat_map(|part| part.split(" or "));
    match alternatives().next() {
        Some(first) if !first.contains(' ') => alternatives().filter(|word| !word.contains(' ')).collect(),
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_has_every_parameter_with_its_choices() {
        let rows = parameters();
        assert_eq!(rows.iter().map(|row| row.name).collect::<Vec<_>>(), PARAMETERS.each_ref().map(|row| row.name));
        let row = |name| rows.iter().find(|row| row.name == name).unwrap();
        assert_eq!(
            (&row("mode").choices[..], &row("mode").roles[..]),
            (&["0", "1", "2"][..], &["server", "client"][..])
        );
        assert_eq!(row("dial").choices, ["auto"]);
        assert!(row("dns").choices.is_empty() && row("crt").choices.is_empty() && row("block").choices.is_empty());
    }
}
