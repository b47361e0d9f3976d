// The usual matching engine: std::map of prices, std::list of orders, a hash of order ids.
// Reads the operation file of bench/matching.py, runs it twice (the first run warms up), prints
// "<nanoseconds of the second run> <fills> <checksum>".
// g++ -O3 -march=native -std=c++17

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <functional>
#include <list>
#include <map>
#include <unordered_map>
#include <vector>

struct Operation {  // bench/matching.py: OPERATION
    int32_t kind;   // 1 limit, 2 cancel, 3 market
    int32_t side;   // 1 bid, -1 ask
    int64_t id;     // of the new order, 1, 2, ...; of a cancel the order meant
    int64_t price;
    int64_t qty;
};

struct Order {
    int64_t id;
    int64_t leaves;
};

struct Level {
    int64_t qty = 0;
    std::list<Order> orders;
};

using Bids = std::map<int64_t, Level, std::greater<int64_t>>;
using Asks = std::map<int64_t, Level>;

struct Place {
    int32_t side;
    std::list<Order>::iterator order;
    Bids::iterator bid;
    Asks::iterator ask;
};

class Engine {
public:
    explicit Engine(size_t orders) { index_.reserve(2 * orders); }

    void run(const Operation& op) {
        if (op.kind == 2) {
            cancel(op.id);
        } else if (op.side > 0) {
            int64_t leaves = take(asks_, op, [&](int64_t price) { return price <= op.price; });
            if (leaves > 0 && op.kind == 1) {
                auto level = bids_.try_emplace(op.price).first;
                index_[op.id] = Place{1, rest(level->second, op.id, leaves), level, {}};
            }
        } else {
            int64_t leaves = take(bids_, op, [&](int64_t price) { return price >= op.price; });
            if (leaves > 0 && op.kind == 1) {
                auto level = asks_.try_emplace(op.price).first;
                index_[op.id] = Place{-1, rest(level->second, op.id, leaves), {}, level};
            }
        }
    }

    int64_t fills = 0;
    int64_t checksum = 0;

private:
    static std::list<Order>::iterator rest(Level& level, int64_t id, int64_t leaves) {
        level.qty += leaves;
        return level.orders.insert(level.orders.end(), Order{id, leaves});
    }

    template <class Side, class Reaches>
    int64_t take(Side& side, const Operation& op, Reaches reaches) {
        int64_t leaves = op.qty;
        while (leaves > 0 && !side.empty()) {
            auto best = side.begin();
            if (op.kind == 1 && !reaches(best->first)) break;
            Level& level = best->second;
            while (leaves > 0 && !level.orders.empty()) {
                Order& maker = level.orders.front();
                int64_t fill = leaves < maker.leaves ? leaves : maker.leaves;
                note(maker.id, op.id, best->first, fill);
                leaves -= fill;
                level.qty -= fill;
                maker.leaves -= fill;
                if (maker.leaves == 0) {
                    index_.erase(maker.id);
                    level.orders.pop_front();
                }
            }
            if (level.orders.empty()) side.erase(best);
        }
        return leaves;
    }

    void cancel(int64_t id) {
        auto found = index_.find(id);
        if (found == index_.end()) return;
        Place place = found->second;
        index_.erase(found);
        Level& level = place.side > 0 ? place.bid->second : place.ask->second;
        level.qty -= place.order->leaves;
        level.orders.erase(place.order);
        if (!level.orders.empty()) return;
        if (place.side > 0) {
            bids_.erase(place.bid);
        } else {
            asks_.erase(place.ask);
        }
    }

    void note(int64_t maker, int64_t taker, int64_t price, int64_t qty) {
        constexpr int64_t mask = (int64_t{1} << 40) - 1;
        int64_t fill = (maker * 7 + taker * 11 + price * 13 + qty * 17) & mask;
        checksum = (checksum * 1000003 + fill) & mask;
        ++fills;
    }

    Bids bids_;
    Asks asks_;
    std::unordered_map<int64_t, Place> index_;
};

// CPU time of this thread: other programs on the core do not count.
static int64_t cpu_ns() {
    timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return now.tv_sec * 1'000'000'000LL + now.tv_nsec;
}

int main(int argc, char** argv) {
    if (argc != 3) {
        std::fprintf(stderr, "usage: matching FILE OPEN_ORDERS\n");
        return 2;
    }
    std::FILE* file = std::fopen(argv[1], "rb");
    if (!file) {
        std::perror(argv[1]);
        return 1;
    }
    std::fseek(file, 0, SEEK_END);
    std::vector<Operation> operations(std::ftell(file) / sizeof(Operation));
    std::rewind(file);
    if (std::fread(operations.data(), sizeof(Operation), operations.size(), file) !=
        operations.size()) {
        std::perror(argv[1]);
        return 1;
    }
    std::fclose(file);
    const size_t orders = std::strtoull(argv[2], nullptr, 10);
    for (int run = 0; run < 2; ++run) {
        Engine engine(orders);
        const int64_t start = cpu_ns();
        for (const Operation& op : operations) engine.run(op);
        const int64_t elapsed = cpu_ns() - start;
        if (run == 1) {
            std::printf("%lld %lld %lld\n",
                        (long long)elapsed, (long long)engine.fills, (long long)engine.checksum);
        }
    }
    return 0;
}
