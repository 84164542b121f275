#!/usr/bin/env python3
"""TSO model (one-entry store buffers) of the eventcount's notify_all that keeps its bits. Notifiers publish (a plain store), then notify all; sleepers wait until so
many publications are to be seen, one more each time, so that they sleep again and again in epochs whose fence somebody else has executed. No kills, no slices: a
state from which not all come to their end is a lost wake.
usage: notify_all.py NOTIFIERS ROUNDS SLEEPERS [once|clearfirst|nofence|samepoch]
once: who finds the epoch moved by another goes away, without a second try; clearfirst: bits are cleared although the fence of their epoch is relied on later
(clears WAITING alone); nofence: no membarrier; samepoch: wakes all without a new epoch"""
import sys
N,R,S=map(int,sys.argv[1:4]);MUT=sys.argv[4] if len(sys.argv)>4 else ''
WAIT,FENCED,EPOCH=1,2,4;WRAP=64
def rep(t,i,v): return t[:i]+(v,)+t[i+1:]
# memory: published by each notifier; event word; asleep: frozenset of sleepers; pcs; buffers of the notifiers
INIT=((0,)*N,0,frozenset(),tuple(('P',0) for _ in range(N)),tuple(('L',1) for _ in range(S)),(None,)*N)
def steps(s):
    mem,ec,sl,no,sp,sb=s
    def wake(sp,sl): # all who sleep go on
        for j in sl: sp=rep(sp,j,('L',sp[j][1]))
        return sp
    for i in range(N):
        if sb[i] is not None: yield (rep(mem,i,sb[i]),ec,sl,no,sp,rep(sb,i,None))
        pc,r=no[i][:2];x=no[i][2:]
        def to(q,ec=ec,sl=sl,sp=sp,sb=sb,mem=mem): return (mem,ec,sl,rep(no,i,q),sp,sb)
        full=sb[i] is not None
        if pc=='P':
            if r<R and not full: yield to(('F',r+1),sb=rep(sb,i,r+1))
        elif pc=='F': yield to(('M',r,0,ec,0)) if ec&WAIT else to(('P',r))      # light fence: the compiler's alone; then the look
        elif pc=='M':                                                          # compare-and-swap to the next epoch: clear or keep
            clear,seen,tries=x
            if full: continue                                                  # a locked instruction drains
            new=((seen&~((WAIT|FENCED) if clear else 0))+EPOCH)%WRAP
            if MUT=='samepoch' and not clear: new=seen
            if MUT=='clearfirst' and clear: new=((seen&~WAIT)+EPOCH)%WRAP
            if not seen&WAIT: yield to(('P',r))
            elif ec==seen: yield to(('W',r,clear),ec=new)
            elif (ec^seen)&~(WAIT|FENCED)==0: yield to(('M',r,clear,ec,tries))
            elif tries==0 and MUT!='once': yield to(('M',r,clear,ec,1))
            else: yield to(('P',r))
        elif pc=='W':                                                          # wakes all of the epochs before
            if full: continue
            n=len(sl)
            yield to(('P',r) if n or x[0] else ('M',r,1,ec,0),sl=frozenset(),sp=wake(sp,sl))
    for j in range(S):
        pc,t=sp[j][:2];x=sp[j][2:]
        def to(q,ec=ec,sl=sl,sb=sb,mem=mem): return (mem,ec,sl,no,rep(sp,j,q),sb)
        if pc=='L':                                                            # looks; then announces itself
            if t>N*R: continue
            if sum(mem)>=t: yield to(('L',t+1))
            else:
                new=ec|WAIT
                yield to(('C' if new&FENCED else 'B',t,new),ec=new)
        elif pc=='B':                                                          # membarrier: everybody's buffer drains
            m=mem
            if MUT!='nofence':
                for i in range(N):
                    if sb[i] is not None: m=rep(m,i,sb[i])
                yield to(('X',t,x[0]),mem=m,sb=(None,)*N)
            else: yield to(('X',t,x[0]))
        elif pc=='X': yield to(('C',t,x[0]|FENCED),ec=ec|FENCED) if ec==x[0] else to(('C',t,x[0]))
        elif pc=='C':
            yield to(('L',t+1)) if sum(mem)>=t else to(('S',t,x[0]))
        elif pc=='S': yield to(('Z',t),sl=sl|{j}) if ec==x[0] else to(('L',t))
seen={INIT};todo=[INIT];nxt={}
while todo:
    s=todo.pop();o=list(steps(s));nxt[s]=o
    for n in o:
        if n not in seen: seen.add(n);todo.append(n)
back={}
for s,o in nxt.items():
    for x in o: back.setdefault(x,[]).append(s)
ok={s for s in nxt if all(q[1]>N*R for q in s[4])};st=list(ok)
while st:
    for r in back.get(st.pop(),()):
        if r not in ok: ok.add(r);st.append(r)
print(sys.argv[1:],'states',len(nxt),'lost wakes',len([s for s in nxt if s not in ok]))
