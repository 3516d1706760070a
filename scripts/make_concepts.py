"""Write the words that the lite encoder tags frames with: ImageNet's classes, and everyday words for groups of them.

    python scripts/make_concepts.py WORDNET_DICT_DIR videollm/encoders/data/imagenet_concepts.json

WORDNET_DICT_DIR holds `data.noun` of WordNet 3.0. The 1,000 leaves are the classes of ImageNet-1k in class order, with
the names of open_clip and the definitions of WordNet. The ancestors of a leaf are limited to those listed in WORDS,
because nobody would describe a frame with most of WordNet's inner nodes ("placental", "instrumentality"). Some classes
are moved to where their photographs belong: a photograph of a car's wheel shows a car.
"""

import argparse
import json
from collections import Counter
from pathlib import Path

from open_clip import IMAGENET_CLASSNAMES
from timm.data.imagenet_info import ImageNetInfo

# Ancestors that are kept: synset -> everyday word.
WORDS = {
    # animals
    "n00015388": "animal",
    "n01861778": "mammal",
    "n02512053": "fish",
    "n01482330": "shark",
    "n01495701": "ray",
    "n01503061": "bird",
    "n01525720": "songbird",
    "n01529672": "finch",
    "n01604330": "bird of prey",
    "n01816887": "parrot",
    "n01845132": "waterfowl",
    "n02000954": "wading bird",
    "n02002075": "stork",
    "n02008041": "heron",
    "n02153203": "game bird",
    "n01791625": "chicken",
    "n01627424": "amphibian",
    "n01629276": "salamander",
    "n01639765": "frog",
    "n01661091": "reptile",
    "n01662784": "turtle",
    "n01674464": "lizard",
    "n01696633": "crocodilian",
    "n01726692": "snake",
    "n01874434": "marsupial",
    "n02062430": "whale",
    "n02084071": "dog",
    "n02087551": "hound",
    "n02092468": "terrier",
    "n02096756": "schnauzer",
    "n02099029": "retriever",
    "n02100399": "setter",
    "n02101108": "spaniel",
    "n02104523": "sheepdog",
    "n02109811": "sled dog",
    "n02112826": "corgi",
    "n02113335": "poodle",
    "n02114100": "wolf",
    "n02115335": "wild dog",
    "n02118333": "fox",
    "n02120997": "feline",
    "n02121808": "cat",
    "n02127808": "big cat",
    "n02131653": "bear",
    "n02323902": "rabbit",
    "n02329401": "rodent",
    "n02370806": "hoofed animal",
    "n02395003": "pig",
    "n02402010": "cattle",
    "n02419796": "antelope",
    "n02469914": "primate",
    "n02470325": "ape",
    "n02484322": "monkey",
    "n02496913": "lemur",
    "n02503517": "elephant",
    "n02159955": "insect",
    "n02164464": "beetle",
    "n02274259": "butterfly",
    "n01772222": "spider",
    "n01974773": "crustacean",
    "n01976957": "crab",
    "n01982650": "lobster",
    "n01940736": "mollusk",
    "n01914163": "coral",
    # people, plants, land
    "n00007846": "person",
    "n00017222": "plant",
    "n11669921": "flower",
    "n12992868": "fungus",
    "n09287968": "landscape",
    "n09359803": "mountain landscape",
    "n09433442": "shore",
    # food
    "n00021265": "food",
    "n07881800": "drink",
    "n07679356": "bread",
    "n07609840": "dessert",
    "n07695965": "sandwich",
    "n07705931": "fruit",
    "n07747055": "citrus fruit",
    "n07707451": "vegetable",
    "n07715561": "squash",
    # vehicles
    "n04524313": "vehicle",
    "n02686568": "aircraft",
    "n04530566": "boat",
    "n04194289": "ship",
    "n04128837": "sailing boat",
    "n02958343": "car",
    "n04490091": "truck",
    "n04520170": "van",
    "n02924116": "bus",
    "n04468005": "train",
    "n02834778": "bicycle",
    "n03790512": "motorcycle",
    "n02970849": "cart",
    "n04235291": "sled",
    "n03764276": "military vehicle",
    "n03322940": "farm machine",
    # buildings
    "n02913152": "building",
    "n03953416": "place of worship",
    "n04202417": "shop",
    "n03544360": "house",
    "n04460130": "tower",
    "n04105068": "roof",
    "n03327234": "fence",
    "n02898711": "bridge",
    "n03743902": "monument",
    # household
    "n03405725": "furniture",
    "n02818832": "bed",
    "n03001627": "chair",
    "n02933112": "cabinet",
    "n04379243": "table",
    "n02729837": "appliance",
    "n03621049": "kitchen utensil",
    "n03101986": "cookware",
    "n02880940": "bowl",
    "n03241496": "drinking vessel",
    "n02876657": "bottle",
    "n03603722": "jug",
    "n02773037": "bag",
    "n02883344": "box",
    "n02801938": "basket",
    "n03151077": "curtain",
    "n04459362": "towel",
    "n03309808": "fabric",
    "n04263760": "light",
    "n04437953": "clock",
    "n04447443": "cosmetics",
    "n06410904": "book",
    "n04028315": "puzzle",
    "n06793231": "road sign",
    # clothing
    "n03051540": "clothing",
    "n03497657": "hat",
    "n03513137": "helmet",
    "n03380867": "shoe",
    "n04371563": "swimsuit",
    "n03057021": "coat",
    "n03815615": "necktie",
    "n04370048": "sweater",
    "n04230808": "skirt",
    "n04097866": "robe",
    "n02739668": "armor",
    "n04272054": "sunglasses",
    "n03725035": "mask",
    # devices and tools
    "n03278248": "electronic device",
    "n03082979": "computer",
    "n03985232": "laptop",
    "n03211117": "screen",
    "n03614007": "keyboard",
    "n04401088": "telephone",
    "n02942699": "camera",
    "n04451818": "tool",
    "n03623556": "knife",
    "n03906997": "pen",
    "n04565375": "weapon",
    "n04099429": "rocket",
    "n03467984": "gun",
    "n04285146": "sports equipment",
    "n02778669": "ball",
    "n03800933": "musical instrument",
    "n03467517": "guitar",
    "n03928116": "piano",
    "n04338517": "string instrument",
    "n03915437": "percussion instrument",
    "n04586932": "wind instrument",
}

# Classes whose photographs do not show what WordNet's parent says: synset -> new parent ("" makes a root).
PARENTS = {
    "n07555863": "n00021265",  # two senses of food
    "n07565083": "",  # menu
    "n03773504": "n04099429",  # missile
    "n04008634": "n04099429",  # projectile
    "n07802026": "n00017222",  # hay
    "n13086908": "n00017222",  # part of a plant
    "n07734744": "n12992868",  # mushroom
    "n11879895": "n11669921",  # rapeseed
    "n12144580": "n07707451",  # corn
    "n13133613": "n07707451",  # corn cob
    "n07930864": "n03241496",  # cup
    "n03438257": "n03241496",  # glass
    "n03733805": "n03621049",  # measuring cup
    "n03461385": "n04202417",  # grocery
    "n06359193": "",  # web site
    "n06596364": "n06410904",  # comic book
    "n07248320": "n06410904",  # book jacket
    "n06874185": "n06793231",  # traffic light
    "n09256479": "n01914163",  # coral reef
    "n09421951": "n09433442",  # sandbar
    "n09468604": "n09359803",  # valley
    "n02084071": "n01861778",  # dog
    "n02153203": "n01503061",  # game bird
    "n01514668": "n01791625",  # cock
    "n01514859": "n01791625",  # hen
    "n01858441": "n01845132",  # swan
    "n01871265": "n02503517",  # tusker
    "n02408429": "n02402010",  # water buffalo
    "n02410509": "n02402010",  # bison
    "n01985128": "n01982650",  # crayfish
    "n03684823": "n04468005",  # locomotive
    "n02959942": "n04468005",  # railway car
    "n04335435": "n04468005",  # tram
    "n04482393": "n02834778",  # tricycle
    "n04509417": "n02834778",  # unicycle
    "n03791053": "n03790512",  # motor scooter
    "n03484083": "n02970849",  # handcart
    "n04252077": "n04235291",  # snowmobile
    "n04465501": "n03322940",  # tractor
    "n03967562": "n03322940",  # plow
    "n02974003": "n02958343",  # car wheel
    "n02965783": "n02958343",  # car mirror
    "n03459775": "n02958343",  # radiator grille
    "n04612504": "n04128837",  # yawl
    "n03297735": "n02913152",  # establishment
    "n03546340": "n02913152",  # housing
    "n04460130": "n02913152",
    "n04105068": "n02913152",
    "n02825657": "n04460130",  # bell tower
    "n04562935": "n04460130",  # water tower
    "n02980441": "n02913152",  # castle
    "n03837869": "n03743902",  # obelisk
    "n03903868": "n03743902",  # pedestal
    "n04458633": "n03743902",  # totem pole
    "n02766320": "n02818832",  # baby bed
    "n04550184": "n02933112",  # wardrobe
    "n03016953": "n02933112",  # chiffonier
    "n03337140": "n02933112",  # filing cabinet
    "n04379964": "n04379243",  # table
    "n04330267": "n02729837",  # stove
    "n04590129": "n03151077",  # window shade
    "n04380533": "n04263760",  # table lamp
    "n03637318": "n04263760",  # lampshade
    "n03891332": "",  # parking meter
    "n03633091": "n03621049",  # ladle
    "n04597913": "n03621049",  # wooden spoon
    "n03380867": "n03051540",  # footwear
    "n03929855": "n03513137",  # pickelhaube
    "n02740764": "n02739668",  # armour plate
    "n02739668": "n03051540",
    "n04272054": "n03051540",
    "n04355933": "n04272054",
    "n04584207": "",  # wig
    "n03724870": "n03725035",  # mask
    "n03868863": "n03725035",  # oxygen mask
    "n03082979": "n03278248",  # computer
    "n04238763": "n04451818",  # slide rule
    "n03485407": "n03082979",  # hand-held computer
    "n03211117": "n03278248",
    "n03782006": "n03211117",  # monitor
    "n04404412": "n03211117",  # television
    "n03614007": "n03278248",
    "n03793489": "n03278248",  # mouse
    "n04074963": "n03278248",  # remote control
    "n04041544": "n03278248",  # radio
    "n03492542": "n03278248",  # hard disk
    "n03691459": "n03278248",  # loudspeaker
    "n03759954": "n03278248",  # microphone
    "n02942699": "n03278248",
    "n02950826": "n04565375",  # cannon
    "n02778669": "n04285146",
    "n04039381": "n04285146",  # racket
    "n04228054": "n04285146",  # ski
    "n02924116": "n04524313",  # bus
    "n04468005": "n04524313",  # train
    "n03322940": "n04524313",  # farm machine
    "n04552348": "n02686568",  # warplane
    "n03445924": "n04524313",  # golf cart
    "n04125853": "",  # seat belt
    "n07871810": "n00021265",  # meat loaf
    "n02086478": "n02101108",  # King Charles spaniel
    "n04270147": "n03621049",  # spatula
    "n03259280": "n03101986",  # Dutch oven
}

# Class names that do not fit into a sentence: open_clip's name -> ours.
NAMES = {
    "baguette": "french bread",
    "kite (bird of prey)": "kite bird",
    "bittern bird": "bittern",
    "Brittany dog": "brittany spaniel",
    "Groenendael dog": "belgian sheepdog",
    "Bouvier des Flandres dog": "bouvier des flandres",
    "Great Pyrenees dog": "great pyrenees",
    "Mexican hairless dog (xoloitzcuintli)": "mexican hairless dog",
    "red wolf or maned wolf": "red wolf",
    "cricket insect": "cricket",
    "common sorrel horse": "horse",
    "pig": "domestic pig",
    "ram (adult male sheep)": "ram",
    "impala (antelope)": "impala",
    "arabian camel": "camel",
    "tusker": "tusked elephant",
    "fox squirrel": "squirrel",
    "snoek fish": "barracouta",
    "rock beauty fish": "rock beauty",
    "gar fish": "gar",
    "stinkhorn mushroom": "stinkhorn",
    "earth star fungus": "earthstar",
    "hen of the woods mushroom": "hen of the woods",
    "horse chestnut seed": "horse chestnut",
    "baluster / handrail": "handrail",
    "military hat (bearskin or shako)": "bearskin hat",
    "cardboard box / carton": "cardboard box",
    "bell or wind chime": "chime",
    "spiral or coil": "coil",
    "gas mask or respirator": "gas mask",
    "product packet / packaging": "packet",
    "shoji screen / room divider": "shoji screen",
    "swim trunks / shorts": "swim trunks",
    "vaulted or arched ceiling": "vaulted ceiling",
    "traffic or street sign": "street sign",
    "cherimoya (custard apple)": "custard apple",
    "Granny Smith apple": "apple",
    "brass memorial plaque": "memorial plaque",
    "loupe magnifying glass": "magnifying glass",
    "ruler measuring stick": "ruler",
    "balaclava ski mask": "balaclava",
    "mask": "face mask",
    "gymnastic horizontal bar": "horizontal bar",
    "fishing casting reel": "fishing reel",
    "keyboard space bar": "space bar",
    "front curtain": "theater curtain",
    "velvet fabric": "velvet",
    "hair wig": "wig",
    "sailboat": "yawl",
    "African bush elephant": "african elephant",
    "ford model t": "vintage car",
    "through arch bridge": "arch bridge",
    "metal nail": "nail",
    "music speaker": "loudspeaker",
    "American bullfrog": "bullfrog",
    "great grey owl": "owl",
    "Crock Pot": "slow cooker",
    "Band-Aid": "adhesive bandage",
    "plate": "plate of food",
}

# Four classes share two names; these are the names of three of them.
SYNSET_NAMES = {"n04008634": "projectile", "n04355933": "sunglass", "n04356056": "dark glasses"}


def read_nouns(path: Path) -> dict[str, tuple[list[str], str]]:
    """Reads synset -> (hypernyms, definition). The format is described in wndb(5WN) of WordNet 3.0."""
    nouns = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("  "):  # licence
            continue
        data, _, gloss = line.partition(" | ")
        fields = data.split()
        at = 4 + 2 * int(fields[3], 16)
        pointers = [fields[at + 1 + 4 * i : at + 4 + 4 * i] for i in range(int(fields[at]))]
        hypernyms = ["n" + offset for symbol, offset, pos in pointers if symbol in ("@", "@i") and pos == "n"]
        nouns["n" + fields[0]] = (hypernyms, gloss.split('; "')[0].strip())
    return nouns


def parent_of(synset: str, nouns: dict[str, tuple[list[str], str]]) -> str:
    """The nearest ancestor in WORDS; of several equally near ones the first; "" if there is none."""
    level = [synset]
    while level:
        above = [h for s in level for h in ([PARENTS[s]] if s in PARENTS else nouns[s][0]) if h]
        for synset in above:
            if synset in WORDS:
                return synset
        level = above
    return ""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("wordnet", type=Path, help="folder of WordNet 3.0's data.noun")
    parser.add_argument("output", type=Path, help="the JSON file to write")
    args = parser.parse_args()

    nouns = read_nouns(args.wordnet / "data.noun")
    leaves: list[str] = ImageNetInfo().label_names()
    if unknown := (set(WORDS) | set(PARENTS) | set(SYNSET_NAMES)) - set(nouns):
        raise SystemExit(f"not in WordNet: {', '.join(sorted(unknown))}")

    parents = {s: parent_of(s, nouns) for s in [*leaves, *WORDS]}
    children = Counter(parents.values())
    if lonely := [word for s, word in WORDS.items() if children[s] < 2]:
        raise SystemExit(f"words with fewer than two children, which add nothing to them: {', '.join(lonely)}")

    synsets = leaves + list(WORDS)
    index = {s: i for i, s in enumerate(synsets)}
    classes = zip(leaves, IMAGENET_CLASSNAMES, strict=True)
    names = [(SYNSET_NAMES.get(s) or NAMES.get(name, name)).lower() for s, name in classes]
    words = names + list(WORDS.values())
    if repeated := [w for w, n in Counter(words).items() if n > 1]:
        raise SystemExit(f"words used twice: {', '.join(repeated)}")

    columns = {
        "words": words,
        "parents": [index[parents[s]] if parents[s] else -1 for s in synsets],
        "synsets": synsets,
        "definitions": [nouns[s][1] for s in leaves],
    }
    rows = (f'"{name}": {json.dumps(values, ensure_ascii=False)}' for name, values in columns.items())
    args.output.write_text("{" + ",\n".join(rows) + "}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
