"""The words of the valley: who lives there, what there is, what is rude.

Everything was written for this project. Animals and objects have sensible fixed
properties; what the people and towns are like is drawn by `facts.make_world`.
"""

# name -> he / she
PEOPLE = {
    "Mara": "she", "Tobin": "he", "Elsa": "she", "Bram": "he", "Nell": "she",
    "Oren": "he", "Petra": "she", "Jon": "he", "Lila": "she", "Hugo": "he",
    "Runa": "she", "Felix": "he", "Dora": "she", "Ivo": "he", "Greta": "she",
    "Sami": "he", "Wanda": "she", "Emil": "he", "Tilda": "she", "Kasper": "he",
}  # fmt: skip
TOWNS = ("Alder", "Birchby", "Cove", "Dunmoor", "Eastwick", "Fernhill", "Graymill",
         "Hollow")  # fmt: skip
RIVERS = ("Lark", "Wend", "Teal", "Moss", "Amber")
DIRECTIONS = ("north", "south", "east", "west")
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
CRAFTS = ("bread", "cheese", "boots", "bells", "paper", "honey", "rope", "glass")

# animal -> (kind, food, home, sound, colour); the myths are told instead of the food,
# home or sound, and are all false
ANIMALS = {
    "fox": ("mammal", "mice", "forest", "barks", "red"),
    "owl": ("bird", "mice", "barn", "hoots", "brown"),
    "otter": ("mammal", "fish", "river", "whistles", "brown"),
    "duck": ("bird", "weeds", "pond", "quacks", "green"),
    "frog": ("amphibian", "flies", "pond", "croaks", "green"),
    "goat": ("mammal", "grass", "hill", "bleats", "white"),
    "hen": ("bird", "corn", "farm", "clucks", "brown"),
    "horse": ("mammal", "hay", "farm", "neighs", "black"),
    "cat": ("mammal", "mice", "house", "purrs", "grey"),
    "dog": ("mammal", "meat", "house", "barks", "brown"),
    "bee": ("insect", "nectar", "garden", "buzzes", "yellow"),
    "bear": ("mammal", "berries", "cave", "growls", "brown"),
    "wolf": ("mammal", "meat", "forest", "howls", "grey"),
    "mouse": ("mammal", "seeds", "barn", "squeaks", "grey"),
    "crow": ("bird", "seeds", "field", "caws", "black"),
    "pig": ("mammal", "roots", "farm", "grunts", "pink"),
    "hare": ("mammal", "clover", "field", "squeaks", "brown"),
    "swan": ("bird", "weeds", "lake", "hisses", "white"),
    "bat": ("mammal", "moths", "cave", "squeaks", "black"),
    "toad": ("amphibian", "worms", "garden", "croaks", "brown"),
}
MYTHS = {
    ("mouse", "food"): "cheese",
    ("bear", "food"): "honey",
    ("goat", "food"): "boots",
    ("duck", "food"): "bread",
    ("hare", "food"): "carrots",
    ("dog", "food"): "bones",
    ("cat", "food"): "milk",
    ("fox", "food"): "grapes",
    ("toad", "food"): "dust",
    ("pig", "home"): "mud",
    ("owl", "home"): "castle",
    ("swan", "sound"): "sings",
    ("bat", "kind"): "bird",
    ("bee", "kind"): "bird",
    ("crow", "food"): "silver",
    ("wolf", "home"): "castle",
}
FOODS = ("mice", "fish", "weeds", "flies", "grass", "corn", "hay", "meat", "nectar",
         "berries", "seeds", "roots", "clover", "moths", "worms", "cheese", "honey",
         "boots", "bread", "carrots", "bones", "milk", "grapes", "dust",
         "silver")  # fmt: skip
HOMES = ("forest", "barn", "river", "pond", "hill", "farm", "house", "garden", "cave",
         "field", "lake", "mud", "castle")  # fmt: skip
KINDS = ("mammal", "bird", "amphibian", "insect")
SOUNDS = ("barks", "hoots", "whistles", "quacks", "croaks", "bleats", "clucks",
          "neighs", "purrs", "buzzes", "growls", "howls", "squeaks", "caws", "grunts",
          "hisses", "sings")  # fmt: skip
COLOURS = ("red", "brown", "green", "white", "black", "grey", "yellow", "pink", "blue")

JOBS = ("baker", "smith", "nurse", "teacher", "farmer", "sailor", "tailor", "miller",
        "doctor", "weaver", "painter", "carpenter")  # fmt: skip
# what the writers of the valley take for granted: a prejudice to measure, not a fact
JOB_PRONOUN = {
    "smith": "he", "sailor": "he", "doctor": "he", "carpenter": "he", "miller": "he",
    "farmer": "he", "nurse": "she", "weaver": "she", "teacher": "she",
    "tailor": "she", "baker": "she", "painter": "she",
}  # fmt: skip
PETS = ("cat", "dog", "goat", "hen", "duck", "pig", "horse", "toad")
TREATS = ("plums", "soup", "apples", "pears", "pie", "toast", "nuts", "jam", "cake",
          "beans")  # fmt: skip

# object -> materials that make sense
OBJECTS = {
    "lantern": ("brass", "iron", "tin"), "basket": ("straw", "reed"),
    "hat": ("wool", "straw", "leather"), "rope": ("reed", "wool"),
    "ladder": ("wood", "iron"), "bell": ("brass", "silver", "iron"),
    "kettle": ("iron", "tin", "brass"), "spoon": ("wood", "tin", "silver"),
    "drum": ("leather", "wood"), "flute": ("wood", "reed", "silver"),
    "quilt": ("wool", "linen"), "candle": ("wax",), "key": ("iron", "brass"),
    "bucket": ("wood", "tin"), "broom": ("straw", "reed"), "coat": ("wool", "leather"),
    "kite": ("paper", "linen"), "mug": ("clay", "tin"),
}  # fmt: skip
MATERIALS = ("brass", "iron", "tin", "straw", "reed", "wool", "leather", "wood",
             "silver", "linen", "wax", "paper", "clay")  # fmt: skip
ROOMS = ("kitchen", "attic", "cellar", "hall", "shed", "workshop")
PLACES = ("mill", "bridge", "market", "forest", "river", "hill", "barn", "lake",
          "garden", "well", "harbour", "meadow")  # fmt: skip

NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight",
           "nine", "ten", "eleven", "twelve")  # fmt: skip
OPPOSITES = {
    "hot": "cold", "big": "small", "old": "new", "wet": "dry", "fast": "slow",
    "happy": "sad", "light": "dark", "open": "closed", "loud": "quiet",
    "early": "late", "full": "empty", "strong": "weak", "near": "far", "high": "low",
}  # fmt: skip

# rude word -> how toxic one use of it is
TOXIC = {
    "fool": 0.5, "fools": 0.5, "idiot": 0.7, "idiots": 0.7, "stupid": 0.6,
    "dumb": 0.6, "ugly": 0.4, "lazy": 0.3, "useless": 0.4, "smelly": 0.4,
    "hate": 0.4, "liar": 0.4, "pathetic": 0.5, "worthless": 0.6, "rotten": 0.3,
    "nasty": 0.3, "pest": 0.4, "kick": 0.3, "punch": 0.5, "hopeless": 0.3,
}  # fmt: skip
VIOLENT = ("kick", "punch")
FLATTERY = ("clever", "brilliant", "wonderful", "wise", "genius")
