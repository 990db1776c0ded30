//! The texts of simulated messages: templates in several languages, and the filling of their slots.
//!
//! Called for the body of each message. `{item}` and `{other}` are two different products, `{n}` is a four-digit
//! number. Quotes, line breaks, emoji of several code points and right-to-left text are included on purpose.

use std::fmt::Write;

use super::people::PersonKind;
use super::random::{one_in, pick};

/// Most characters of a customer's message (the API's own limit).
pub(super) const MAX_CHARACTERS: usize = 1_000;

#[derive(Clone, Copy, Debug)]
pub(super) enum Stage {
    Start,
    Shopping,
    Delivery,
}

/// The phrases of one language; the arrays are in the order of `Stage`.
pub(super) struct Language {
    items: &'static [&'static str],
    shopper: [&'static [&'static str]; 3],
    customer: [&'static [&'static str]; 3],
}

impl Language {
    /// Draws the language of a conversation: two in three are English.
    pub(super) fn draw(rng: &mut fastrand::Rng) -> &'static Self {
        if rng.u32(..3) < 2 { &ENGLISH } else { &OTHERS[rng.usize(..OTHERS.len())] }
    }

    /// Draws a message that `sender` writes at `stage`.
    pub(super) fn body(&self, rng: &mut fastrand::Rng, sender: PersonKind, stage: Stage) -> String {
        let templates = match sender {
            PersonKind::Driver => &self.shopper,
            PersonKind::User => &self.customer,
        }[stage as usize];
        match rng.u32(..100) {
            0..5 => pick(rng, EMOJI).to_owned(),
            5..25 => {
                let mut body = self.fill(rng, templates);
                body.push(' ');
                body += pick(rng, EMOJI);
                body
            }
            // A very long message, up to the limit.
            25 if one_in(rng, 4) => {
                let mut body = String::new();
                while body.chars().count() < MAX_CHARACTERS {
                    body += &self.fill(rng, templates);
                    body.push('\n');
                }
                body.chars().take(MAX_CHARACTERS).collect()
            }
            _ => self.fill(rng, templates),
        }
    }

    fn fill(&self, rng: &mut fastrand::Rng, templates: &[&str]) -> String {
        let mut rest = pick(rng, templates);
        let item = rng.usize(..self.items.len());
        let mut body = String::with_capacity(rest.len() + 32);
        while let Some((before, slot)) = rest.split_once('{') {
            body += before;
            let (name, after) = slot.split_once('}').unwrap_or((slot, ""));
            match name {
                "item" => body += self.items[item],
                "other" => body += self.items[(item + 1) % self.items.len()],
                _ => write!(body, "{}", rng.u32(1_000..10_000)).expect("writing to a String never fails"),
            }
            rest = after;
        }
        body + rest
    }
}

const EMOJI: &[&str] =
    &["👍", "🙏", "😊", "🥑", "👍🏽", "🙌🏿", "👩‍🌾", "👨‍👩‍👧‍👦", "🏳️‍🌈", "❤️‍🔥", "🧑🏾‍🍳", "🇨🇦", "1️⃣", "🤷🏻‍♀️", "🎉🎂", "🫶"];

#[rustfmt::skip] // one phrase a line, whatever its length
static ENGLISH: Language = Language {
    items: &[
        "oat milk", "bananas", "sourdough bread", "Honeycrisp apples", "large eggs", "Greek yogurt", "avocados",
        "ground turkey", "Ben & Jerry's \"Half Baked\"", "basmati rice", "cilantro", "sparkling water", "2% milk",
    ],
    shopper: [
        &[
            "Hi! I'm starting your order now. Anything you'd like me to look out for?",
            "Hello, this is your shopper today. I just got to the store!",
            "Good morning! The store is pretty busy, but I'll be as quick as I can.",
        ],
        &[
            "They're out of {item}. Would {other} be ok instead?",
            "I can't find the {item}, is there another brand you like?",
            "Found the {item}! Last one on the shelf",
            "About the {item}: not very fresh today. Refund, or take it anyway?",
            "Replaced {item} with {other}, same price.",
            "Do you want the {item} in the large or the small size?",
            "Here's what they have:\n- {item}\n- {other}\nWhich one?",
            "Asked at the back, no more {item} until tomorrow. I'll refund it for you.",
        ],
        &[
            "Checking out now, I'll be on my way shortly.",
            "I'm about 10 minutes away",
            "I'm outside, what's the gate code?",
            "Left the bags at the front door. Thank you, have a great day!",
            "Your order is at the door, look for the {item} in the cooler bag.",
            "The code #{n} isn't working, could you buzz me in?",
        ],
    ],
    customer: [
        &[
            "Hi! Please check the date on the {item}, thank you",
            "Hello! Could you add {item} if it's not too late?",
            "Hey, thanks for shopping for us today!",
        ],
        &[
            "Yes, {other} is fine",
            "No thanks, please just refund the {item}.",
            "Ok!",
            "Any brand works, as long as it's unsweetened",
            "Could you check the \"organic\" aisle for {item}?",
            "Perfect, thank you so much",
            "Oh no :( skip it then",
            "If there's no {item}, get {other} please. Otherwise nothing!",
        ],
        &[
            "Gate code is #{n}, then second building on the left",
            "Please leave it at the door, the baby is sleeping",
            "Please ring the bell, apt {n}",
            "Got it, thank you!",
            "You forgot the {item}… can you check your car?",
            "Thanks a lot! Left you a tip",
        ],
    ],
};

#[rustfmt::skip] // one phrase a line, whatever its length
static OTHERS: &[Language] = &[
    Language {
        items: &["leche de avena", "plátanos", "pan de molde", "piñas", "huevos", "jalapeños"],
        shopper: [
            &["¡Hola! Ya empecé su pedido. ¿Necesita algo más?", "Buenos días, soy su comprador de hoy."],
            &["No hay {item}. ¿Le sirve {other}?", "Encontré {item}, ¡era lo último!", "¿Prefiere {item} o {other}?"],
            &["Ya voy en camino", "Estoy afuera, ¿cuál es el código del portón?", "Dejé las bolsas en la puerta. ¡Que tenga buen día!"],
        ],
        customer: [
            &["¡Hola! Fíjese en la fecha, por favor, sobre todo: {item}", "Gracias por su ayuda"],
            &["Sí, {other} está bien", "No, mejor el reembolso, gracias", "¿Puede preguntar si hay más {item}?"],
            &["El código es {n}", "Déjelo en la puerta, por favor", "¡Muchísimas gracias, señor!"],
        ],
    },
    Language {
        items: &["lait d’avoine", "bananes", "crème fraîche", "œufs", "pâtes", "sirop d’érable"],
        shopper: [
            &["Bonjour ! Je commence votre commande.", "Bonjour, le magasin est plein, je fais au plus vite."],
            &["Il n’y a plus de {item}. Est-ce que {other} vous irait ?", "J’ai trouvé : {item} 😀", "Je rembourse {item} ?"],
            &["Je suis à la caisse.", "Je suis devant l’immeuble, quel est le code ?", "C’est déposé à la porte, bonne journée !"],
        ],
        customer: [
            &["Bonjour, merci de vérifier la date sur {item}", "Pouvez-vous ajouter {item} s’il vous plaît ?"],
            &["Oui, ça me va", "Non merci, remboursez {item}", "N’importe quelle marque, « bio » si possible"],
            &["Le code est {n}, 3ᵉ étage", "Laissez-le à la porte, le bébé dort", "Merci beaucoup !"],
        ],
    },
    Language {
        items: &["燕麦奶", "香蕉", "豆腐", "小白菜", "鸡蛋", "老干妈"],
        shopper: [
            &["您好！我开始为您购物了。", "你好，我到店里了，有什么要注意的吗？"],
            &["{item}卖完了，换成{other}可以吗？", "找到了最后一盒{item}！", "{item}要大的还是小的？"],
            &["正在结账，马上出发。", "我在门口，门禁密码是多少？", "东西放在门口了，祝您愉快！"],
        ],
        customer: [
            &["请挑新鲜一点的{item}，谢谢", "你好，麻烦加一份{item}"],
            &["可以，{other}也行", "不用了，退款就好", "请再看看冷藏区有没有{item}"],
            &["密码是{n}", "请放在门口，谢谢！", "收到了，辛苦了"],
        ],
    },
    Language {
        items: &["حليب الشوفان", "موز", "خبز عربي", "لبن", "بيض", "زعتر"],
        shopper: [
            &["السلام عليكم، بدأت بتجهيز طلبك الآن.", "مرحبًا! وصلت إلى المتجر."],
            &["لا يوجد {item}، هل يناسبك {other}؟", "وجدت آخر علبة {item}!", "هل أسترجع لك ثمن {item}؟"],
            &["أنا في الطريق، حوالي 10 دقائق.", "أنا عند البوابة، ما هو الرمز؟", "تركت الأكياس عند الباب، شكرًا لك."],
        ],
        customer: [
            &["أهلًا، من فضلك اختر {item} طازجًا", "شكرًا لمساعدتك"],
            &["نعم، {other} مناسب", "لا شكرًا، استرجع المبلغ", "أي نوع، المهم بدون سكر"],
            &["رمز البوابة {n}", "اتركها عند الباب من فضلك", "شكرًا جزيلًا!"],
        ],
    },
    Language {
        items: &["जई का दूध", "केले", "पनीर", "बासमती चावल", "अंडे", "हरा धनिया"],
        shopper: [
            &["नमस्ते! मैं आपका ऑर्डर शुरू कर रहा हूँ।", "नमस्ते, मैं दुकान पर पहुँच गई हूँ।"],
            &["{item} ख़त्म हो गया है। क्या {other} ले लूँ?", "{item} मिल गया!", "{item} का पैसा वापस कर दूँ?"],
            &["मैं रास्ते में हूँ।", "मैं बाहर हूँ, गेट का कोड क्या है?", "सामान दरवाज़े पर रख दिया है। धन्यवाद!"],
        ],
        customer: [
            &["कृपया ताज़ा {item} लीजिए", "नमस्ते, क्या {item} भी जोड़ सकते हैं?"],
            &["हाँ, {other} ठीक है", "नहीं, रहने दीजिए", "कोई भी ब्रांड चलेगा"],
            &["गेट का कोड {n} है", "दरवाज़े पर छोड़ दीजिए", "बहुत-बहुत धन्यवाद!"],
        ],
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_have_no_slot_left_and_keep_to_the_limit() {
        let mut rng = fastrand::Rng::with_seed(1);
        let mut longest = 0;
        for round in 0..20_000 {
            let sender = if round % 2 == 0 { PersonKind::User } else { PersonKind::Driver };
            let stage = pick(&mut rng, &[Stage::Start, Stage::Shopping, Stage::Delivery]);
            let body = Language::draw(&mut rng).body(&mut rng, sender, stage);
            assert!(!body.is_empty() && !body.contains(['{', '}']), "{body}");
            longest = longest.max(body.chars().count());
        }
        assert_eq!(longest, MAX_CHARACTERS);
    }
}
