//! Everything that `check` says, in both languages: one table, by what it is about. What is not worth a word has no case.

use super::finding::Case;

/// Cases, each a static of its own: its name, its code, its level, then what is so, why, and what to do, in English and in Chinese.
macro_rules! cases {
    ($($name:ident $code:literal $level:ident
        $what:literal | $what_zh:literal;
        $cause:literal | $cause_zh:literal;
        $cure:literal | $cure_zh:literal
    )*) => {
        $(
            #[doc = concat!("`", $code, "`: ", $what, ".")]
            pub static $name: $crate::check::finding::Case = $crate::check::finding::Case {
                code: $code,
                level: $crate::check::finding::Level::$level,
                what: $crate::check::finding::Words { en: $what, zh: $what_zh },
                cause: $crate::check::finding::Words { en: $cause, zh: $cause_zh },
                cure: $crate::check::finding::Words { en: $cure, zh: $cure_zh },
            };
        )*
        /// All of these.
        pub(super) static CASES: &[&$crate::check::finding::Case] = &[$(&$name),*];
    };
}

mod certificates;
mod machine;
mod master;
mod network;
mod setup;

pub use certificates::*;
pub use machine::*;
pub use master::*;
pub use network::*;
pub use setup::*;

/// Every case there is.
pub fn all() -> Vec<&'static Case> {
    [setup::CASES, certificates::CASES, machine::CASES, master::CASES, network::CASES].concat()
}
