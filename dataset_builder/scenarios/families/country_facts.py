"""More facts about countries, as The World Factbook states them (CIA, public domain), and how they are asked for."""

from __future__ import annotations

from dataclasses import dataclass

from .countries import COUNTRIES


@dataclass(frozen=True)
class Topic:
    """Something that the Factbook tells about countries.

    Args:
        name (`str`): as people call it, with an article where one is due.
        search (`str`): words that find it.
        unit (`str`): unit of its number, empty for a number without one or for words.
        values (`dict[str, str]`): by country; a country without a clear value is left out.
    """

    name: str
    search: str
    unit: str
    values: dict[str, str]


# Country, then one column for each name in `_COLUMNS`; empty where the Factbook gives no single value.
_TABLE = """\
Afghanistan|Kabul|54.4|18.4|35.99|5.5|0.32|1.9|18|60||7492||-6.6|13.3|wheat|lion|Milli Surood
Algeria|Algiers|77.9|29.3|19.62|27.4|1.66|0.7|77|115|4020|2908|134.053|4|11.5|potatoes||Kassaman
Angola|Luanda|62.9|16.6|39.75|8.2|0.24|51.6|45|70|2761|2620|869.846|28.2|14.5|cassava||Angola Avante
Argentina|Buenos Aires|78.8|34.6|10.47|28.3|5.11|17.2|89|140|17866||914.695||7.9|maize||Himno Nacional Argentino
Bahrain|Manama|80.4|33.5|12.08|29.8|0.74|4.3|100|160||135|0.376|0.9|1.2|||Bahrainona
Bangladesh|Dhaka|75.2|27.8|19.45|3.6|0.72|14.4|45|108|2460|1060|115.604|10.5|4.7|rice||Amar Shonar Bangla
Barbados|Bridgetown|79|42.2|8.02|23.1|2.96|14.7|80|115||336|2|-0.5|7.6|sugarcane||
Belarus|Minsk|74.7|42.5|8.16|24.5|4.72|44|92|131|5528|346|3.246|5.8|3.4|milk||
Belize|Belmopan|74.3|27.2|17.44|24.1|1.09|58.3|72|67||1124|2|3.3|7|sugarcane||God Save the King
Botswana|Gaborone|66.4|25.8|21.16|18.9|0.38|27.8|81|164|888|1495|13.563|2.8|23.2|root vegetables|zebra|Fatshe leno la rona
Burkina Faso|Ouagadougou|64.2|19|31.74|5.6|0.15|12.7|17|119|622|749|606.345|4.2|5.2|maize|white stallion|Le Ditanye
Cabo Verde|Praia|74.3|29.3|17.51|11.8|0.73|12.4|74|112||2829|101.922|1|11.9|sugarcane||Cantico da Liberdade
Cambodia|Phnom Penh|71.4|28.3|17.74|3.9|0.21|39.4|61|116|642|1810|4072.397||0.3|cassava||Nokoreach
Cameroon|Yaounde|64.2|19.4|30.79|11.4|0.14|41|42|108|987|4045|606.345|4.5|3.6|cassava|lion|
Comoros|Moroni|67.8|23.1|21.12|7.8|0.42|17.8|36|110||2360|454.524||3.9|bananas||Udzima wa ya Masiwa
Czechia|Prague|78.6|44.4|9.56|26|4.35|38.2|86|127|9548|1602|23.217|2.4|2.6|wheat||
Djibouti|Djibouti|65.9|26.7|21.46|13.5|0.21|0.3|65|49|97|2021|177.721|2.1|25.9|vegetables|red star|Jabuuti
Ecuador|Quito|74.9|28.2|17.42|19.9|2.31|49.8|77|102|965|||1.5|4.8|bananas||
El Salvador|San Salvador|75.9|31.2|12.46|24.6|1.62|33|68|177|12.5|2730||0.9|2.9|sugarcane|turquoise-browed motmot|Himno Nacional de El Salvador
Eritrea|Asmara|67.5|21.7|25.92|5|0.09|12|20|59|306|3018|15.075||5.6|sorghum|camel|
Gabon|Libreville|70.4|22.3|25.51|15|0.52|91.5|72|125|649|1050|606.345|1.2|20.1|oil palm fruit|black panther|La Concorde
Ghana|Accra|70.1|21.6|27.09|10.9|0.27|30.7|70|114|947|885||22.8|3.1|cassava||God Bless Our Homeland Ghana
Greece|Athens|81.9|46.8|7.38|24.9|6.58|36.9|85|114|2345||0.924|2.7|10.2|maize||Ymnos eis tin Eleftherian
Guatemala|Guatemala City|73.5|26.7|17.12|21.2|1.28|33.2|56|115|800|4220|7.759|2.9|2.3|sugarcane|quetzal|Himno Nacional de Guatemala
Guyana|Georgetown|72.4|28.7|16.68|20.2|1.39|87.1|82|106||2775|208.5|2.9|10.2|rice||
Honduras|Tegucigalpa|73.1|26.1|19.7|21.4|0.49|53.3|58|76|699|2870|24.799|4.6|6.1|sugarcane||Himno Nacional de Honduras
India|New Delhi|68.2|30.1|15.91|3.9|0.72|24.4|56|79|65554|8586|83.669|5|4.3|sugarcane||
Indonesia|Jakarta|73.6|31.8|14.55|6.9|0.52|50.6|69|123|8159|4884|15855.448||3.3|oil palm fruit|garuda|Indonesia Raya
Iraq|Baghdad|73.7|22.7|23.26|30.4|1.02|1.6|82|100|2272|3611|1300||15.6|wheat|golden eagle|Mawtini
Italy|Rome|83|48.8|7.13|19.9|4.19|31.8|87|133|18475|4748|0.924|1|6.8|milk|five-pointed white star|Il Canto degli Italiani
Jamaica|Kingston|76.3|28.8|16.08|24.7|0.46|56.2|83|118||2256|156.44|5.4|4.9|sugarcane|green-and-black streamertail|
Jordan|Amman|76.5|25.4|21.9|35.5|2.85|0.8|93|70|509|1854|0.71|1.6|18|tomatoes|eagle|
Kazakhstan|Astana|73.3|32.1|16.83|21|3.75|1.3|93|127|16636|7010|468.962|8.8|4.8|wheat|golden eagle|Menin Qazaqstanim
Kenya|Nairobi|70.4|21.5|25.93|7.1|0.29|6.5|35|126|3819|5199|134.822|4.5|5.5|sugarcane|lion|Ee Mungu Nguvu Yetu
Kiribati|Tarawa|68.5|27.7|19.4|46|0.2|1.3|88|49||81|1.515|||coconuts|frigatebird|Teirake kaini Kiribati
Kuwait|Kuwait City|79.6|30.4|17.36|37.9|2.27|0.4|100|168||300|0.307|2.9|2.2|dates|golden falcon|
Kyrgyzstan|Bishkek|72.9|28.6|18.26|16.6|1.85|6.5|89|107|424|7439|87.15||3.3|milk|white falcon|
Lebanon|Beirut|79.2|29.4|16.73|32|2.68|13.8|84|77|401|3088|89500|45.2||potatoes|cedar tree|
Lesotho|Maseru|60.2|24|21.68|16.6|0.24|1.1|48|70||3482|18.329|6.1|16.2|milk|mokorotio|
Liberia|Monrovia|61.6|20.1|31.72|9.9|0.18|66.5|24|32|429|1447|||2.9|cassava|white star|
Madagascar|Antananarivo|68.8|20.5|27.54|5.3|0.17|17.5|20|76|836|2876|4525.425||3.1|rice||Ry Tanindraza nay malala o
Malawi|Lilongwe|73|19.4|28.04|5.8|0.05|22.4|18|69|767|3002||32.2|5.1|sweet potatoes|lion|Mulungu dalitsa Malawi
Malaysia|Kuala Lumpur|76.6|32.2|14.05|15.6|2.34|57.8|98|140|1851|4095|4.576|1.8|3.9|oil palm fruit||Negaraku
Mali|Bamako|63.2|16.5|39.44|8.6|0.19|8.8|35|112|593|1155|606.345|3.2|3.1|maize||Le Mali
Malta|Valletta|83.6|42.1|7.67|28.9|7.86|1.5|92|142||253|0.924|1.7|2.8|milk||
Marshall Islands|Majuro|75.2|25.9|20.81|52.9|0.47|53.9|66|38||14||||||Forever Marshall Islands
Mauritania|Nouakchott|65.9|18.6|34.01|12.7|0.26|1|37|92|728|915||2.5|10.4|rice||National Anthem of Mauritania
Mauritius|Port Louis|75.4|40|9.73|10.8|1.44|19.2|80|173||828|46.415|3.6|5.5|sugarcane||Motherland
Morocco|Rabat|74.2|30.9|16.5|26.1|0.74|12.8|91|137|2067|4165|9.942|1|9|wheat||Hymne Cherifien
Mozambique|Maputo|58.3|17.4|36.07|7.2|0.18|41.7|20|50|4787|2436|63.905|4.1|3.6|cassava||
Namibia|Windhoek|65.9|23.1|23.93|17.2|0.55|9.8|64|85|2628|2573|18.329|4.2|19.2|root vegetables|oryx|
Nicaragua|Managua|74.7|29.5|16.07|23.7|0.68|40.1|58|106||2085|36.624|4.6|4.6|sugarcane|turquoise-browed motmot|
Nigeria|Abuja|62.2|19.4|33.56|8.9|0.38|19.1|39|71|3798|2419|1478.965|33.2|3|cassava|eagle|
North Macedonia|Skopje|77.3|40.9|10.07|22.4|2.94|40.9|87|108|699|2764|56.873|3.5|13.5||eight-rayed sun|Denes nad Makedonija
Pakistan|Islamabad|70.3|23.2|25.05|8.6|1.16|4.1|27|77|11881|8611|278.581|12.6|5.5|sugarcane||Qaumi Tarana
Peru|Lima|68.9|30.4|16.43|19.7|1.69|52.9|80|125|1854.4|6746||2|4.9|sugarcane|vicuna|Himno Nacional del Peru
Philippines|Manila|70.8|27.1|16.02|6.4|0.79|24.7|84|144|77|2954|57.291|3.2|2.2|sugarcane||Lupang Hinirang
Qatar|Doha|80.3|34.4|9.19|35.1|3.02|0.1|100|154||103|3.64|1.3|0.2|dates||
Rwanda|Kigali|66.6|21.3|25.05|5.8|0.09|24.5|34|80||4519|1318.128|1.8|12|bananas||Rwanda nziza
Saint Lucia|Castries|79.4|40.4|11.17|19.7|4.23|53.7|74|99||948|2.7|-0.1|11|coconuts|twin pitons|God Save the King
Samoa|Apia|75.7|27.8|18.53|47.3|0.56|57.8|58|62||1857|2.754|2.2|4.6|coconuts||
Saudi Arabia|Riyadh|77.2|32.8|13.41|35.4|3.41|1.3|100|132|5410|3000|3.75|1.7|3.9|milk||Aash Al Maleek
Seychelles|Victoria|76.6|39.2|11.59|14|2.25|58.6|87|192||905|14.53|0.3||coconuts|coco de mer|Koste Seselwa
Sierra Leone|Freetown|59.4|19.7|30.04|8.7|0.13|34.3|21|108||1948||28.6|3.2|cassava|lion|
Singapore|Singapore|86.7|39.8|8.77|6.1|2.83|22|94|171||166|1.336|2.4|3.2|chicken||Majulah Singapura
Slovakia|Bratislava|77.2|43.1|9.77|20.5|3.7|40.3|90|132|3627|2655|0.924|2.8|5.3|wheat|double-barred cross|Nad Tatrou sa blyska
Slovenia|Ljubljana|82.2|46|7.52|20.2|3.37|61.8|90|126|1207|2864|0.924|2|3.4|milk||Zdravljica
Solomon Islands|Honiara|77.2|25.5|21.57|22.5|0.24|89.9|43|62||2335|8.455||1.5|oil palm fruit||God Save the King
Suriname|Paramaribo|72.7|32.3|14.63|26.4|1.36|91.7|78|142||1230|33.181|16.2|7.4|rice||
Syria|Damascus|74.8|24.5|21.26|27.8|1.52|2.9|35|71|2052|2814|||13|wheat|northern bald ibis|
Tajikistan|Dushanbe|71.9|22.8|25.31|14.2|1.87|3.1|57|119|680|7495|10.799||11.7|potatoes||Surudi milli
Togo|Lome|72.1|20.9|30.17|8.4|0.08|22.4|37|81|568|986|606.345|2.9|2|cassava|lion|
Tunisia|Tunis|77.3|34.1|11.35|26.9|1.32|4.5|72|118|2173|1544|3.107|7.2|16.3|milk||Humat Al Hima
Turkey|Ankara|76.7|34.4|13.56|32.1|2.24|29.3|87|108|11497|5137|32.806|58.5|8.5|sugar beets||Istiklal Marsi
Tuvalu|Funafuti|69|28.1|21.57|51.6|1.35|34.3|74|99||5|1.515|||coconuts|maneapa|God Save the King
Uganda|Kampala|69.7|16.4|38.91|5.3|0.19|12.1|15|83|1244|5110|3757.263|3.3|3|plantains|grey crowned crane|
Uruguay|Montevideo|78.9|37.4|9.05|27.9|4.67|11.4|90|146|1673|514|40.213|4.8|8.5|milk||Himno Nacional
Venezuela|Caracas|74.5|31.3|16.45|25.6|1.66|53.5|62|71|447|4978|||5.5|milk|troupial|Gloria al bravo pueblo
Zambia|Lusaka|66.9|19|29.6|8.1|0.32|60.6|33|109|3126|2330|26.166|15|6|sugarcane||Lumbanyeni Zambia
Zimbabwe|Harare|67.2|21.3|28.18|15.5|0.14|35.9|38|94|3427|2592|3266.332||8.6|sugarcane||Kalibusiswe Ilizwe leZimbabwe
"""  # noqa: E501
_COLUMNS = """capital life age births obesity doctors forest internet
    mobile railways peak rate inflation unemployment product symbol anthem""".split()


def _column(name: str) -> dict[str, str]:
    position = 1 + _COLUMNS.index(name)
    cells = (line.split("|") for line in _TABLE.splitlines())
    return {row[0]: row[position] for row in cells if row[position]}


TOPICS = {
    "capital": Topic("capital", "capital", "", _column("capital")),
    "life": Topic("life expectancy at birth", "life expectancy at birth", "years", _column("life")),
    "age": Topic("median age", "median age", "years", _column("age")),
    "births": Topic("birth rate", "birth rate", "births per 1,000 people", _column("births")),
    "obesity": Topic("share of adults with obesity", "obesity", "percent", _column("obesity")),
    "doctors": Topic("number of physicians per 1,000 people", "physicians density", "physicians", _column("doctors")),
    "forest": Topic("share of forest in the land", "forest land use", "percent", _column("forest")),
    "internet": Topic("share of people who use the internet", "internet users", "percent", _column("internet")),
    "mobile": Topic(
        "number of mobile subscriptions per 100 people",
        "mobile cellular telephones",
        "subscriptions",
        _column("mobile"),
    ),
    "railways": Topic("length of the railways", "railways", "km", _column("railways")),
    "peak": Topic("height of the highest point", "highest point", "m", _column("peak")),
    "rate": Topic("exchange rate to the dollar in 2024", "exchange rates", "", _column("rate")),
    "inflation": Topic("inflation rate in 2024", "inflation rate", "percent", _column("inflation")),
    "unemployment": Topic("unemployment rate in 2024", "unemployment rate", "percent", _column("unemployment")),
    "product": Topic("first agricultural product", "agricultural products", "", _column("product")),
    "symbol": Topic("national symbol", "national symbol", "", _column("symbol")),
    "anthem": Topic("title of the national anthem", "national anthem", "", _column("anthem")),
    "independence": Topic(
        "year of independence", "independence", "", {name: str(c.independence) for name, c in COUNTRIES.items()}
    ),
}
"""What may be asked about countries, by the names that `families.yaml` uses."""
