//! The texts of the mock server's messages: JSON text with escapes; `@` stands for a product.

pub(super) const SHOPPER: [&str; 14] = [
    "Hi! I\u{2019}m starting on your order now and will keep you posted \u{1F6D2}",
    "They are out of @, would you like something else instead?",
    "Found @, but only the larger size is left on the shelf \\u2014 is that okay?",
    "No problem, I have refunded @ and moved on to the next aisle.",
    "The store calls it \\\"@\\\", I hope that is the one you had in mind!",
    "There is a line of about ten minutes at the deli counter \u{1F605}",
    "Would you prefer the organic @? It is fifty cents more today.",
    "Checking out now, everything else was in stock \u{2705}",
    "I am on my way, should be with you in about twenty minutes.",
    "The app says to leave it at the front desk.\\nIs that still right?",
    "I\\u0027ve arrived, could you let me know which entrance is yours?",
    "Left everything by the door, enjoy your @ and have a great evening! \u{1F44B}",
    "Do you want me to replace @ with the store brand or skip it?",
    "Sorry for the wait, they are restocking @ right at this moment.",
];

pub(super) const CUSTOMER: [&str; 14] = [
    "Hello and thank you for shopping for me today!",
    "Yes please, any brand of @ is fine as long as it is unsalted.",
    "Could you add two more @ if they still have some? \u{1F64F}",
    "No thanks, just skip @ then. I can get it over the weekend.",
    "The large one is perfect, my kids go through it in a day \u{1F602}",
    "Is there any @ from the bakery instead of the packaged one?",
    "Please check the date on @, last time it was almost expired.",
    "Please leave it with the concierge, the code is 4711#.\\nThanks!",
    "Cr\\u00e8me fra\\u00eeche would work as well, whatever is easier for you.",
    "We are in the back building, second floor, the blue door on the left.",
    "Take your time, there is no rush at all on this end.",
    "If @ is gone, then the one in the green box, please.",
    "That\u{2019}s great, see you soon! \u{1F697}\u{1F4A8}",
    "Got it all, thank you so much for picking such a nice @!",
];

pub(super) const GOODS: [&str; 16] = [
    "oat milk",
    "sourdough bread",
    "jalape\u{f1}os",
    "ripe avocados",
    "greek yogurt",
    "brown eggs",
    "baby spinach",
    "salmon fillets",
    "basmati rice",
    "cherry tomatoes",
    "paper towels",
    "cheddar",
    "cold brew",
    "blueberries",
    "chicken thighs",
    "sparkling water",
];

pub(super) const NAMES: [&str; 24] = [
    "Alma", "Ben", "Carla", "Dmitri", "Eleni", "Farid", "Grace", "Hector", "Ines", "Jamal", "Keiko", "Liam", "Maya",
    "Noah", "Olga", "Priya", "Quinn", "Rosa", "Sam", "Tariq", "Uma", "Victor", "Wanda", "Zo\u{eb}",
];
