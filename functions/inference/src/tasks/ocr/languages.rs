//! Which languages a recognition model of PaddleOCR reads: those whose letters its character list has. It
//! reads all of them at once, so asking for one changes nothing, and asking for another is refused.

use super::recognise::Alphabet;
use crate::tasks::TaskError;

/// Language codes as EasyOCR has them, and letters that a text in that language cannot do without.
const LETTERS: [(&str, &str); 24] = [
    ("en", "AZaz09"),
    ("ch_sim", "的是这国门"),
    ("ch_tra", "這國門灣體"),
    ("ja", "あのアンをッ"),
    ("ko", "가나다한"),
    ("ar", "ابت"),
    ("cs", "ěščřžů"),
    ("da", "æøå"),
    ("de", "äöüßÄÖÜ"),
    ("es", "ñ¿áéíóú"),
    ("fr", "éèçàœùêîô"),
    ("hi", "कखग"),
    ("hu", "őűáé"),
    ("it", "àèéìòù"),
    ("nl", "éëï"),
    ("no", "æøå"),
    ("pl", "ąćęłńóśźż"),
    ("pt", "ãõçáéíóú"),
    ("ro", "ăâîșț"),
    ("ru", "АЯаяЖж"),
    ("sv", "åäö"),
    ("tr", "ğışçö"),
    ("uk", "іїєґ"),
    ("vi", "ăđơưạ"),
];

/// The codes of the languages that are read.
#[derive(Debug)]
pub(crate) struct Languages(Vec<&'static str>);

impl Languages {
    /// Those of a character list.
    pub(crate) fn of(alphabet: &Alphabet) -> Self {
        let reads = |letters: &str| letters.chars().all(|letter| alphabet.has(letter));
        Self(LETTERS.iter().filter(|(_, letters)| reads(letters)).map(|(code, _)| *code).collect())
    }

    /// Refuses what is not read, naming it and what is.
    pub(crate) fn check(&self, asked: Option<&[String]>) -> Result<(), TaskError> {
        match asked.unwrap_or_default().iter().find(|code| !self.0.contains(&code.as_str())) {
            None => Ok(()),
            Some(code) => Err(TaskError::Refused(format!(
                "parameter \"languages\": {code:?} is not read by this model; use any of {}, or leave it out",
                self.0.join(", ")
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn languages_follow_the_characters() {
        let check = |characters: &str, reads: &[&str], refused: &str| {
            let list: Vec<String> = characters.chars().map(String::from).collect();
            let languages = Languages::of(&Alphabet::parse(&list.join("\n")));
            assert_eq!(languages.0, reads, "{characters}");
            let asked = |code: &str| languages.check(Some(&[code.to_owned()]));
            assert!(reads.iter().all(|code| asked(code).is_ok()));
            let refusal = asked(refused).unwrap_err().to_string();
            assert!(
                refusal.contains(refused) && reads.iter().all(|code| refusal.contains(code)),
                "{refusal}"
            );
        };
        check("AZaz09", &["en"], "fr");
        check("AZaz09的是这国门", &["en", "ch_sim"], "ch_tra");
        check("åäöæøéëï", &["da", "nl", "no", "sv"], "");
        assert!(Languages::of(&Alphabet::parse("")).check(None).is_ok());
    }
}
