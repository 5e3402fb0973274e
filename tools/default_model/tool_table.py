"""The hand-written tools: what they are called, what they take, how people ask for them, what they return."""

from __future__ import annotations

from dataclasses import dataclass

from .sample import Language


@dataclass(frozen=True)
class Param:
    names: tuple[str, ...]  # any of them may stand in the schema
    kind: str  # what `value()` makes, or a|b|c for an enum
    en: str
    zh: str


@dataclass(frozen=True)
class Blueprint:
    """One tool of the table. A question names the parameters it gives, in {braces} by position: {0}, {1}."""

    names: tuple[str, ...]
    en: str
    zh: str
    params: tuple[Param, ...]
    ask: dict[Language, list[str]]
    fields: tuple[tuple[str, str, str], ...]  # (key, Chinese key, kind) that the observation may hold
    topic: str


def _p(names: str, kind: str, en: str, zh: str) -> Param:
    return Param(tuple(names.split()), kind, en, zh)


def _b(
    names: str, en: str, zh: str, params: list[Param], ask_en: list[str], ask_zh: list[str], fields: str, topic: str
) -> Blueprint:
    parsed = tuple((f.split("/")[0], f.split("/")[1], f.split("/")[2]) for f in fields.split())
    return Blueprint(tuple(names.split()), en, zh, tuple(params), {"en": ask_en, "zh": ask_zh}, parsed, topic)


_CITY = _p("city city location place town", "city", "The name of the city", "城市名称")
_DATE = _p("date day", "date", "The date, YYYY-MM-DD", "日期，格式 YYYY-MM-DD")
_PERSON = _p("name person recipient contact", "name", "The name of the person", "人名")
_LANGUAGES = "German|French|Spanish|Italian|Dutch|Russian|Greek|Latin|法语|德语|英语|日语|俄语"
_TEXT = _p("text message content", "text", "The text", "文本内容")

TRAIN_BLUEPRINTS: list[Blueprint] = [
    _b(
        "get_weather get_weather weather query_weather get_current_weather getWeather",
        "Get the current weather in a city",
        "查询城市的当前天气",
        [_CITY],
        [
            "What is the weather in {0}?", "How is the weather in {0}?", "What's the weather like in {0}?",
            "Weather in {0}?", "Is it raining in {0}?", "Tell me the weather in {0}.", "How warm is it in {0}?",
            "Please check the weather in {0}.", "What is the weather like in {0} today?",
        ],
        [
            "{0}的天气怎么样？", "{0}今天天气如何？", "查一下{0}的天气", "{0}天气怎么样？", "请问{0}的天气如何？",
            "{0}今天下雨吗？", "帮我查查{0}的天气", "{0}现在多少度？",
        ],
        "temperature/温度/temperature condition/天气/condition humidity/湿度/small wind/风力/small", "weather",
    ),
    _b(
        "get_forecast weather_forecast forecast",
        "Get the weather forecast for a city on a date",
        "查询某城市某一天的天气预报",
        [_CITY, _DATE],
        [
            "What will the weather be in {0} on {1}?", "Weather forecast for {0} on {1}, please.",
            "Will it rain in {0} on {1}?",
        ],
        ["{0}在{1}的天气预报", "{1}那天{0}天气怎么样？", "查一下{0}{1}的天气预报"],
        "high/最高温/temperature low/最低温/temperature condition/天气/condition", "weather",
    ),
    _b(
        "get_stock_price stock_price get_quote query_stock", "Get the current price of a stock", "查询股票的当前价格",
        [_p("symbol ticker stock company", "code", "The stock symbol", "股票代码")],
        [
            "What is the stock price of {0}?", "How much is a share of {0}?", "Get the stock price of {0}.",
            "What is {0} trading at?", "Stock price of {0}?",
        ],
        ["{0}的股价是多少？", "查一下{0}的股价", "{0}股票现在多少钱？", "请查询股票{0}的价格", "{0}现在的股价"],
        "price/价格/price currency/货币/EUR|USD|CNY change/涨跌/price", "stock",
    ),
    _b(
        "translate translate_text translator", "Translate a text into another language", "把文本翻译成另一种语言",
        [
            _TEXT,
            _p("target_language language to target", _LANGUAGES, "The target language", "目标语言"),
        ],
        [
            'Translate "{0}" into {1}.', 'How do you say "{0}" in {1}?', "Please translate {0} to {1}",
            'What is "{0}" in {1}?',
        ],
        ["把“{0}”翻译成{1}", "“{0}”用{1}怎么说？", "请将“{0}”译成{1}。", "翻译成{1}：{0}"],
        "translation/译文/text", "translation",
    ),
    _b(
        "set_alarm create_alarm alarm", "Set an alarm", "设置闹钟",
        [_p("time at when", "time", "The time, HH:MM", "时间，格式 HH:MM")],
        ["Set an alarm for {0}.", "Wake me up at {0}.", "I need an alarm at {0}", "Please set the alarm to {0}."],
        ["帮我设一个{0}的闹钟", "{0}叫我起床", "设置闹钟{0}", "请在{0}提醒我起床"],
        "status/状态/ok|set|done alarm_id/闹钟编号/int", "alarm",
    ),
    _b(
        "send_email email mail_send", "Send an email", "发送电子邮件",
        [
            _p("to recipient address", "email", "The address", "收件人地址"),
            _p("subject title", "text", "The subject", "邮件主题"),
        ],
        [
            'Send an email to {0} with the subject "{1}".', 'Email {0} about "{1}"',
            "Write a mail to {0}, subject: {1}",
        ],
        ["给{0}发一封邮件，主题是“{1}”", "发邮件给{0}，主题：{1}", "请向{0}发送主题为“{1}”的邮件"],
        "status/状态/sent|queued|ok message_id/邮件编号/code", "email",
    ),
    _b(
        "calculator calculate calc evaluate", "Evaluate an arithmetic expression", "计算算术表达式",
        [_p("expression formula input", "sum", "The expression", "算术表达式")],
        ["Use the calculator: {0}", "Calculate {0} with the calculator.", "Use the tool to work out {0}"],
        ["用计算器算一下{0}", "用工具计算{0}", "请用计算器计算 {0}"],
        "result/结果/int", "calculator",
    ),
    _b(
        "convert_currency currency_convert exchange", "Convert an amount of money into another currency", "货币换算",
        [
            _p("amount value", "int", "The amount", "金额"),
            _p("from source from_currency", "USD|EUR|GBP|JPY|CNY|CHF|INR|KRW", "The source currency", "原货币"),
            _p("to target to_currency", "AUD|CAD|SEK|NOK|BRL|MXN|HKD|SGD", "The target currency", "目标货币"),
        ],
        ["Convert {0} {1} to {2}.", "How much is {0} {1} in {2}?", "Change {0} {1} into {2}, please."],
        ["把{0} {1}换成{2}", "{0} {1}等于多少{2}？", "请把{0}{1}兑换成{2}"],
        "amount/金额/price rate/汇率/price", "currency",
    ),
    _b(
        "search_flights find_flights flights", "Search flights between two cities", "查询两个城市之间的航班",
        [
            _p("origin from departure", "city", "The city of departure", "出发城市"),
            _p("destination to arrival", "city", "The destination", "目的城市"),
        ],
        [
            "Find flights from {0} to {1}.", "Search for a flight from {0} to {1}",
            "Are there flights from {0} to {1}?", "I want to fly from {0} to {1}.",
        ],
        ["查一下从{0}到{1}的航班", "有从{0}飞{1}的飞机吗？", "帮我找{0}到{1}的航班", "我想从{0}飞到{1}"],
        "flight/航班/code price/价格/int departure/起飞时间/time", "flight",
    ),
    _b(
        "order_food food_order order_meal", "Order food", "点餐",
        [_p("dish item food", "word", "The dish", "菜名"), _p("quantity count number", "small", "How many", "份数")],
        ["Order {1} portions of {0}.", "I would like {1} {0}, please order.", "Please order {0}, {1} portions."],
        ["帮我点{1}份{0}", "我要点{0}，{1}份", "点餐：{0}{1}份"],
        "order_id/订单号/code total/总价/price", "food",
    ),
    _b(
        "get_time current_time get_local_time time_in", "Get the current local time of a city", "查询城市的当地时间",
        [_CITY],
        ["What time is it in {0}?", "Tell me the time in {0}.", "What is the local time in {0}?", "Time in {0}?"],
        ["{0}现在几点？", "{0}现在是什么时间？", "查一下{0}的当地时间", "请问{0}几点了？"],
        "time/时间/time date/日期/date", "time",
    ),
    _b(
        "play_music play_song music_play", "Play a song", "播放歌曲",
        [_p("song title track", "text", "The title of the song", "歌名")],
        ["Play the song {0}.", 'Play "{0}"', "I want to hear {0}", "Please play {0}."],
        ["播放歌曲{0}", "放一首《{0}》", "我想听《{0}》", "请播放“{0}”"],
        "status/状态/playing|ok length/时长/time", "music",
    ),
    _b(
        "lookup_order get_order order_status track_order", "Look up the status of an order", "查询订单状态",
        [_p("order_id id order order_number", "code", "The order number", "订单号")],
        [
            "Where is my order {0}?", "What is the status of order {0}?", "Look up order {0}.", "Track order {0}",
            "Please check my order {0}.",
        ],
        ["我的订单{0}到哪了？", "查询订单{0}的状态", "订单{0}怎么样了？", "帮我查一下订单{0}"],
        "status/状态/shipped|delivered|pending|cancelled arrives/送达日期/date", "order",
    ),
    _b(
        "book_table reserve_table restaurant_booking", "Book a table in a restaurant", "预订餐厅座位",
        [
            _p("restaurant place name", "name", "The restaurant", "餐厅名"),
            _p("people guests persons", "small", "Number of people", "人数"),
            _p("time at", "time", "The time", "时间"),
        ],
        [
            "Book a table at {0} for {1} people at {2}.", "Reserve a table for {1} at {0}, {2}.",
            "I want to eat at {0} at {2} with {1} people.",
        ],
        ["在{0}订一张{1}人的桌子，时间{2}", "帮我预订{0}，{1}位，{2}", "我想{2}在{0}吃饭，{1}个人，请订位"],
        "confirmation/确认号/code table/桌号/small", "table",
    ),
    _b(
        "book_hotel reserve_hotel hotel_booking", "Book a hotel room in a city", "预订某城市的酒店",
        [_CITY, _p("nights days", "small", "Number of nights", "入住晚数")],
        [
            "Book a hotel in {0} for {1} nights.", "I need a hotel room in {0}, {1} nights.",
            "Reserve a room in {0} for {1} nights",
        ],
        ["在{0}订酒店，住{1}晚", "帮我预订{0}的酒店，{1}晚", "我要去{0}住{1}晚，请订酒店"],
        "hotel/酒店/name price/价格/int", "hotel",
    ),
    _b(
        "send_message send_sms text_message message", "Send a short message to someone", "给某人发短信",
        [_PERSON, _TEXT],
        [
            'Send {0} the message "{1}".', "Text {0}: {1}", 'Send a message to {0} saying "{1}"',
            "Tell {0} by message: {1}",
        ],
        ["给{0}发短信：{1}", "发消息给{0}说“{1}”", "给{0}发条短信，内容是“{1}”"],
        "status/状态/sent|delivered|ok time/时间/time", "message",
    ),
    _b(
        "call_contact phone_call make_call", "Call a person on the phone", "给某人打电话",
        [_PERSON],
        ["Call {0}.", "Please phone {0}", "Make a call to {0}.", "Ring {0} for me"],
        ["给{0}打电话", "打电话给{0}", "拨打{0}的电话", "请呼叫{0}"],
        "status/状态/calling|busy|connected", "call",
    ),
    _b(
        "add_reminder create_reminder remind set_reminder", "Create a reminder", "创建提醒事项",
        [
            _p("text task what", "text", "What to be reminded of", "提醒内容"),
            _p("time when", "time", "The time", "时间"),
        ],
        ['Remind me of "{0}" at {1}.', "At {1} remind me: {0}", 'Create a reminder "{0}" for {1}.'],
        ["{1}提醒我{0}", "创建提醒：{0}，时间{1}", "请在{1}提醒我“{0}”"],
        "status/状态/ok|created reminder_id/提醒编号/int", "reminder",
    ),
    _b(
        "search_web web_search search google_search", "Search the web", "搜索网页",
        [_p("query q keywords", "text", "What to search for", "搜索关键词")],
        ["Search the web for {0}", 'Search for "{0}".', "Google {0}", 'Look up "{0}" on the web.'],
        ["搜索{0}", "在网上搜一下“{0}”", "帮我搜索“{0}”", "上网查查{0}"],
        "title/标题/text count/数量/int", "search",
    ),
    _b(
        "get_news news latest_news", "Get the latest news on a topic", "获取某个主题的最新新闻",
        [_p("topic subject about", "word", "The topic", "主题")],
        ["What is the latest news about {0}?", "News about {0}?", "Show me news on {0}."],
        ["关于{0}有什么新闻？", "查一下{0}的最新新闻", "{0}的新闻"],
        "headline/标题/text source/来源/word", "news",
    ),
    _b(
        "turn_on_light switch_light light_on set_light", "Switch the light of a room", "控制房间的灯",
        [
            _p("room place where", "word", "The room", "房间"),
            _p("state action mode", "on|off", "on or off", "on 或 off"),
        ],
        ["Turn {1} the light in {0}.", "Switch {1} the light in room {0}", "Light {1} in {0}, please."],
        ["把{0}的灯设为{1}", "{0}的灯{1}", "请将{0}的灯切到{1}"],
        "status/状态/ok|done power/功率/small", "light",
    ),
    _b(
        "set_temperature thermostat heat_set", "Set the temperature of a room", "设置房间温度",
        [
            _p("room place", "word", "The room", "房间"),
            _p("degrees temperature value", "small", "Degrees Celsius", "摄氏度"),
        ],
        ["Set the temperature in {0} to {1} degrees.", "Make it {1} degrees in {0}.", "Heat {0} to {1} degrees"],
        ["把{0}的温度调到{1}度", "{0}设为{1}度", "请将{0}的室温设置为{1}度"],
        "status/状态/ok|done current/当前温度/small", "heating",
    ),
    _b(
        "get_population population city_population", "Get the population of a city", "查询城市人口",
        [_CITY],
        ["What is the population of {0}?", "How many people live in {0}?", "Population of {0}?"],
        ["{0}有多少人口？", "{0}的人口是多少？", "查一下{0}的人口"],
        "population/人口/int year/年份/int", "population",
    ),
    _b(
        "find_restaurant search_restaurant restaurants", "Find a restaurant in a city", "查找城市里的餐厅",
        [_CITY, _p("cuisine kind food", "word", "The kind of food", "菜系")],
        ["Find a {1} restaurant in {0}.", "Where can I eat {1} in {0}?", "Look for {1} food in {0}"],
        ["在{0}找一家{1}餐厅", "{0}哪里可以吃{1}？", "查找{0}的{1}餐馆"],
        "restaurant/餐厅/name rating/评分/small street/街道/word", "restaurant",
    ),
    _b(
        "get_route directions navigate route", "Get the route between two places", "查询两地之间的路线",
        [
            _p("start from origin", "city", "The start", "起点"),
            _p("end to destination", "city", "The destination", "终点"),
        ],
        ["How do I get from {0} to {1}?", "Show me the way from {0} to {1}.", "Route from {0} to {1}"],
        ["从{0}到{1}怎么走？", "查一下{0}到{1}的路线", "导航：从{0}去{1}"],
        "distance/距离/int minutes/分钟/int", "route",
    ),
    _b(
        "get_train_times train_schedule trains", "Get the train times from a station", "查询车站的火车时刻",
        [_p("station from stop", "city", "The station", "车站")],
        ["When does the next train leave from {0}?", "Next train from {0}?", "Train times for {0}, please."],
        ["{0}的下一班火车几点？", "查一下{0}站的火车时刻", "{0}下一趟火车是什么时候？"],
        "departure/发车时间/time platform/站台/small train/车次/code", "train",
    ),
    _b(
        "get_exchange_rate exchange_rate fx_rate", "Get the exchange rate of a currency", "查询某货币的汇率",
        [_p("currency code", "USD|EUR|GBP|JPY|CNY|CHF|INR|KRW|AUD|CAD", "The currency", "货币")],
        ["What is the exchange rate of {0}?", "Exchange rate for {0}?", "How does {0} stand today?"],
        ["{0}的汇率是多少？", "查询{0}汇率", "今天{0}的汇率"],
        "rate/汇率/price date/日期/date", "currency",
    ),
    _b(
        "create_event add_event calendar_add", "Add an event to the calendar", "在日历中添加日程",
        [_p("title event name", "text", "The title", "日程标题"), _p("date day", "date", "The date", "日期")],
        ['Add "{0}" to my calendar on {1}.', 'Create an event "{0}" on {1}', "Put {0} into the calendar for {1}."],
        ["在{1}添加日程“{0}”", "把“{0}”加到{1}的日历", "创建日程：{0}，日期{1}"],
        "status/状态/ok|created event_id/日程编号/int", "calendar",
    ),
    _b(
        "get_user user_info find_user lookup_user", "Get the record of a user", "查询用户信息",
        [_p("user_id id user", "int", "The id of the user", "用户编号")],
        ["Show me the record of user {0}.", "Who is user {0}?", "Look up user {0}", "Get user {0}."],
        ["查询用户{0}的信息", "用户{0}是谁？", "查一下编号为{0}的用户"],
        "name/姓名/name city/城市/city age/年龄/small", "user",
    ),
    _b(
        "roll_dice dice throw_dice", "Roll a die with a number of sides", "掷骰子",
        [_p("sides faces n", "small", "Number of sides", "面数")],
        ["Roll a die with {0} sides.", "Throw a {0}-sided die", "Roll a d{0}"],
        ["掷一个{0}面的骰子", "扔一次{0}面骰子", "用{0}面骰子掷一次"],
        "value/点数/small", "dice",
    ),
    _b(
        "random_number get_random random_int", "Get a random number between two numbers", "生成两个数之间的随机数",
        [
            _p("min low start", "small", "The smallest number", "最小值"),
            _p("max high end", "int", "The largest number", "最大值"),
        ],
        [
            "Give me a random number between {0} and {1}.", "Random number from {0} to {1}",
            "Pick a number between {0} and {1}.",
        ],
        ["给我一个{0}到{1}之间的随机数", "在{0}和{1}之间随机选一个数", "生成随机数，范围{0}到{1}"],
        "number/数字/int", "random",
    ),
    _b(
        "add_to_cart cart_add buy", "Put a product into the shopping cart", "把商品加入购物车",
        [
            _p("product item article", "word", "The product", "商品"),
            _p("quantity amount", "small", "How many", "数量"),
        ],
        ["Put {1} {0} into my cart.", "Add {1} of {0} to the shopping cart", "I want to buy {1} {0}."],
        ["把{1}个{0}加入购物车", "我要买{1}个{0}", "购物车里加{1}件{0}"],
        "status/状态/ok|added total/总价/price", "cart",
    ),
    _b(
        "get_product_price price_check product_price", "Get the price of a product", "查询商品价格",
        [_p("product item article", "word", "The product", "商品")],
        ["How much does {0} cost?", "What is the price of {0}?", "Price of {0}?"],
        ["{0}多少钱？", "{0}的价格是多少？", "查一下商品{0}的价格"],
        "price/价格/price stock/库存/int", "price",
    ),
    _b(
        "get_movie_info movie film_info", "Get information about a film", "查询电影信息",
        [_p("title film movie", "text", "The title", "片名")],
        ['Tell me about the film "{0}".', "Who directed the movie {0}?", "Information on the film {0}"],
        ["查一下电影《{0}》", "《{0}》这部电影怎么样？", "电影《{0}》的信息"],
        "director/导演/name year/年份/int rating/评分/price", "film",
    ),
    _b(
        "define_word dictionary define lookup_word", "Look up the meaning of a word", "查词典",
        [_p("word term", "word", "The word", "词语")],
        ["What does the word {0} mean?", "Define {0}.", 'Look up the word "{0}" in the dictionary.'],
        ["“{0}”这个词是什么意思？", "查词典：{0}", "{0}的释义是什么？"],
        "meaning/释义/text", "dictionary",
    ),
    _b(
        "transfer_money bank_transfer pay", "Transfer money to a person", "给某人转账",
        [_PERSON, _p("amount sum", "int", "The amount", "金额")],
        ["Transfer {1} to {0}.", "Send {0} {1} euros", "Pay {1} to {0}, please."],
        ["给{0}转账{1}元", "转{1}块钱给{0}", "请向{0}支付{1}元"],
        "status/状态/ok|done balance/余额/price", "money",
    ),
    _b(
        "get_balance account_balance balance", "Get the balance of an account", "查询账户余额",
        [_p("account account_id number", "code", "The account", "账号")],
        ["What is the balance of account {0}?", "How much money is in account {0}?", "Balance of {0}?"],
        ["账户{0}的余额是多少？", "查一下账号{0}的余额", "{0}账户里还有多少钱？"],
        "balance/余额/price currency/货币/EUR|USD|CNY", "balance",
    ),
    _b(
        "track_package track_parcel parcel_status", "Track a parcel", "查询快递",
        [_p("tracking_number number code", "code", "The tracking number", "快递单号")],
        ["Track the parcel {0}.", "Where is my parcel {0}?", "Where is package {0}?"],
        ["快递{0}到哪了？", "查一下快递单号{0}", "我的包裹{0}在哪里？"],
        "location/位置/city status/状态/shipped|delivered|pending", "order",
    ),
    _b(
        "get_air_quality air_quality aqi", "Get the air quality of a city", "查询城市的空气质量",
        [_CITY],
        ["How is the air quality in {0}?", "Air quality in {0}?", "Is the air clean in {0}?"],
        ["{0}的空气质量怎么样？", "查一下{0}的空气质量", "{0}空气好吗？"],
        "aqi/指数/int level/等级/good|fair|poor", "air",
    ),
    _b(
        "open_file read_file file_open", "Read a file", "读取文件",
        [_p("path filename file", "code", "The path of the file", "文件路径")],
        ["Open the file {0}.", "What is in the file {0}?", "Read {0}, please."],
        ["打开文件{0}", "文件{0}里有什么？", "请读取文件{0}"],
        "content/内容/text size/大小/int", "file",
    ),
    _b(
        "create_ticket open_ticket support_ticket", "Create a support ticket", "创建工单",
        [
            _p("title subject problem", "text", "What is wrong", "问题描述"),
            _p("priority level", "low|medium|high", "The priority", "优先级"),
        ],
        [
            'Create a ticket "{0}" with {1} priority.', "Open a {1} priority ticket: {0}",
            'Report the problem "{0}", priority {1}.',
        ],
        ["创建工单“{0}”，优先级{1}", "提交一个{1}优先级的工单：{0}", "报告问题“{0}”，优先级为{1}"],
        "ticket/工单号/code status/状态/open|new", "ticket",
    ),
    _b(
        "register_user sign_up create_user", "Register a new user", "注册新用户",
        [_PERSON, _p("age years", "small", "The age", "年龄")],
        ["Register {0}, age {1}.", "Create a user called {0} who is {1} years old", "Sign up {0}, {1} years old."],
        ["注册用户{0}，年龄{1}", "新建一个叫{0}的用户，{1}岁", "为{0}注册账号，今年{1}岁"],
        "status/状态/ok|created user_id/用户编号/int", "register",
    ),
]  # fmt: skip

# Held out: never seen in training, only in the evaluation.
TEST_BLUEPRINTS: list[Blueprint] = [
    _b(
        "get_sunset sunset_time", "Get the time of the sunset in a city", "查询城市的日落时间",
        [_CITY],
        ["When is sunset in {0}?", "When does the sun set in {0}?"],
        ["{0}几点日落？", "{0}的日落时间是几点？"],
        "sunset/日落/time", "sunset",
    ),
    _b(
        "rent_car car_rental", "Rent a car in a city", "在某城市租车",
        [_CITY, _p("days duration", "small", "Number of days", "天数")],
        ["Rent a car in {0} for {1} days.", "I need a car in {0} for {1} days."],
        ["在{0}租车{1}天", "我要在{0}租一辆车，租{1}天"],
        "car/车型/word price/价格/int", "car",
    ),
    _b(
        "find_doctor search_doctor", "Find a doctor in a city", "查找城市里的医生",
        [_CITY],
        ["Find a doctor in {0}.", "I need a doctor in {0}"],
        ["在{0}找一位医生", "{0}有哪些医生？"],
        "doctor/医生/name phone/电话/phone", "doctor",
    ),
    _b(
        "get_recipe recipe_search", "Get the recipe of a dish", "查询菜谱",
        [_p("dish", "word", "The dish", "菜名")],
        ["How do I cook {0}?", "Give me the recipe for {0}."],
        ["{0}怎么做？", "查一下{0}的菜谱"],
        "minutes/分钟/small main/主料/word", "recipe",
    ),
    _b(
        "check_in flight_check_in", "Check a passenger in for a flight", "办理登机手续",
        [_p("passenger", "name", "The passenger", "乘客姓名"), _p("flight", "code", "The flight number", "航班号")],
        ["Check in {0} for flight {1}.", "Please check {0} in on flight {1}"],
        ["为{0}办理航班{1}的登机", "请帮{0}值机，航班{1}"],
        "seat/座位/code gate/登机口/small", "check-in",
    ),
    _b(
        "get_team_score match_score", "Get the score of a team's last match", "查询球队最近一场比赛的比分",
        [_p("team", "name", "The team", "球队")],
        ["What was the score of {0}?", "How did {0} play?"],
        ["{0}的比分是多少？", "{0}踢得怎么样？"],
        "goals/进球/small against/失球/small", "score",
    ),
    _b(
        "library_search find_book", "Search a book in the library", "在图书馆查书",
        [_p("title", "text", "The title of the book", "书名")],
        ['Does the library have the book "{0}"?', "Find the book {0} in the library."],
        ["图书馆有《{0}》吗？", "查一下图书《{0}》"],
        "shelf/书架/code copies/册数/small", "library",
    ),
    _b(
        "water_plants irrigate", "Water the plants in a part of the garden", "给花园浇水",
        [_p("area", "word", "The part of the garden", "区域"), _p("minutes", "small", "How long", "分钟数")],
        ["Water the plants in {0} for {1} minutes.", "Irrigate {0} for {1} minutes"],
        ["给{0}浇水{1}分钟", "在{0}浇水，时间{1}分钟"],
        "status/状态/ok|done litres/升数/small", "garden",
    ),
]  # fmt: skip
